//! Which release a machine takes, and when it may reboot.
//!
//! Pure: no clock, no disk, no network. Facts are arguments, decisions are
//! results; the daemon carries them out, and the fleet simulation runs the same
//! code for thousands of machines.
//!
//! ```text
//! Config   what the operator wrote      update.toml
//! Standing what the machine remembers   record.json
//! Channel  what is on offer             signed, from the repository
//!    └─ choose ──▶ Take an offer ──(staged)──▶ may_reboot ──▶ FleetLock ──▶ reboot
//! ```
//!
//! `docs/update-policy.md` is the manual page.

mod check;
mod choose;
mod config;
mod fleet_lock;
mod machine_id;
mod reboot;
mod standing;
mod wave;
mod window;

pub use self::config::{Config, KEYS, Key, LockServer, Mode};
pub use check::{check_at, check_delay};
pub use choose::{Cause, Choice, Passed, Reason, Why, choose, withdrawn};
pub use fleet_lock::{Action, Answer, Client, Endpoint, Event, FleetLock, HEADER, Phase, Request};
pub use machine_id::{MachineId, MachineIdError};
pub use reboot::{Obstacle, Pending, Reboot, may_reboot};
pub use standing::{Failure, Hold, Standing, Wish};
pub use wave::{share, wave_start};
pub use window::{Opening, Window, Windows};
