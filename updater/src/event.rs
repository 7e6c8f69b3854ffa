//! What the daemon waits for.

use lifecycle::News;
use tokio::sync::mpsc::UnboundedSender;
use updater_control::{Reply, Request};

/// Something has happened.
#[derive(Debug)]
pub enum Event {
    /// A client asks.
    Asked {
        /// What.
        request: Request,
        /// Where the answers go.
        answers: UnboundedSender<Reply>,
    },
    /// PID 1 reports a service.
    Service(Box<control::Service>),
    /// The worker reports.
    Worker(News),
    /// The FleetLock server has answered, or the request failed.
    LockAnswered(policy::Answer),
    /// PID 1 restarts the machine, or refuses.
    RestartAnswered(Result<(), String>),
    /// PID 1 has accepted the blessing, or could not be reached.
    BootConfirmed(Result<(), String>),
}
