//! A fleet of simulated machines that run the real policy.
//!
//! Each machine has the policy crate's `choose`, `may_reboot` and `FleetLock`;
//! simulated are the clock, the network, the repository, the FleetLock server, the
//! machines' boots and the operator who watches them. Everything follows from the
//! seed: the same one gives the same fleet, event by event.
//!
//! ```text
//! scenario ─▶ simulation: queue of events ─▶ machine ⇄ lock_server, operator
//!                                   └──────▶ record ─▶ summary (JSON), picture (SVG)
//! ```

mod lock_server;
mod machine;
mod network;
mod operator;
mod picture;
mod random;
mod record;
mod scenario;
mod simulation;
mod summary;

pub use picture::draw;
pub use record::{Record, Sample};
pub use scenario::{Publication, Region, Scenario};
pub use simulation::run;
pub use summary::{Summary, VersionSummary, summary};
