//! The updater's control protocol: what `wherry update` asks of the service
//! `updater`, and what it answers, over the Unix stream socket [`SOCKET`].
//!
//! Frames and versions are those of PID 1's control socket (`control`). A client sends one
//! [`Request`] a frame. What takes time ([`Request::Check`], [`Request::Apply`],
//! [`Request::RollBack`]) is answered by any number of [`Reply::Progress`], one a
//! second at least, and then by one other [`Reply`]; everything else by one
//! reply at once. A client that goes away stops nothing.
//!
//! User 0 may do everything, any other user only what changes nothing.
//!
//! The types here are the wire's own: versions and times are texts, so that a
//! client needs no knowledge of either. `docs/updates.md` is the manual page.

mod protocol;
mod reply;
mod request;

pub use protocol::{Client, ClientError, Updater};
pub use reply::{
    Applied, Available, Booted, Checked, Failed, Hold, LastCheck, Phase, Progress, Record,
    RecordKind, Refusal, Reply, SlotState, SlotStatus, Status, Trial,
};
pub use request::{Reboot, Request};

/// Where the updater listens.
pub const SOCKET: &str = "/run/wherry/updater/updater.sock";
