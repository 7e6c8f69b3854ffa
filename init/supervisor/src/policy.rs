//! How one service is to be supervised, and the limits that hold for all.

use crate::ServiceName;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::time::Duration;

/// How one service is supervised: what its definition says, as far as the
/// supervisor needs it. All durations are as the definition gives them; none
/// is too large or too small for the machine.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Policy {
    /// Must be up before this one starts; this one stops when one of them
    /// goes down.
    pub requires: BTreeSet<ServiceName>,
    /// Ordering only: starts after these and stops before them, where both
    /// are to start or to stop. Names that are not defined are ignored.
    pub after: BTreeSet<ServiceName>,
    /// What makes it ready.
    pub ready: Ready,
    /// From the start until it is ready; `None` waits for ever.
    pub start_timeout: Option<Duration>,
    /// What happens when it ends by itself.
    pub restart: Restart,
    /// From the stop signal until the whole cgroup is killed.
    pub stop_timeout: Duration,
    /// Probes, where the definition has some.
    pub health: Option<Health>,
    /// The longest silence between two `WATCHDOG=1`, counted from ready.
    pub watchdog: Option<Duration>,
    /// An update is blessed only when it is healthy. Changes nothing here.
    pub essential: bool,
    /// Started when it is defined; otherwise when it is asked for or when
    /// one that requires it is to start.
    pub enabled: bool,
}

/// What makes a service ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ready {
    /// Its program runs.
    Started,
    /// Its program has ended with success: a one-shot.
    Exit,
    /// It said `READY=1`.
    Notify,
    /// A health probe succeeded. Without [`Policy::health`] the same as
    /// `Started`.
    Health,
}

/// Whether and when a service that ended by itself is started again.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Restart {
    /// After which ends.
    pub policy: RestartPolicy,
    /// The wait before the first restart; doubled with each further one.
    pub backoff_min: Duration,
    /// The longest wait. A run that was ready for this long starts the
    /// doubling again.
    pub backoff_max: Duration,
    /// How often, before it is given up.
    pub limit: Option<RestartLimit>,
}

/// After which ends a service is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RestartPolicy {
    /// None.
    Never,
    /// Every end but success.
    OnFailure,
    /// Every end, a one-shot's success included.
    Always,
}

/// At most so many restarts in any window of that length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RestartLimit {
    /// Restarts, not counting those that an operator or a dependency caused.
    pub count: u32,
    /// The window's length.
    pub window: Duration,
}

/// How a service is probed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Health {
    /// From the end of one probe to the next.
    pub interval: Duration,
    /// The longest time that a probe may take.
    pub timeout: Duration,
    /// So many failed probes in a row make it unhealthy; 0 counts as 1.
    pub retries: u32,
}

/// The limits that hold for all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Limits {
    /// From the start of a shutdown until all that is left is killed.
    pub shutdown: Duration,
    /// From a kill until a run that still has not ended is given up.
    pub kill: Duration,
}

impl Default for Limits {
    /// A shutdown of 60 s holds a chain of several services that each use up
    /// a stop timeout of 10 s. A killed process that is not gone after 5 s
    /// hangs in the kernel, on a disk that does not answer.
    fn default() -> Self {
        Self {
            shutdown: Duration::from_secs(60),
            kill: Duration::from_secs(5),
        }
    }
}
