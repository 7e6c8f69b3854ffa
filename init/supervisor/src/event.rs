//! What the shell tells the supervisor, and what it is told to do.

use crate::{Exit, Policy, ServiceName, State};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Something happened. Any event may come at any time: one that names an
/// unknown service or another run than the current one changes nothing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Event {
    /// These definitions are new or have changed. A service that runs keeps
    /// running; one that failed is tried again.
    Define(BTreeMap<ServiceName, Policy>),
    /// All that is to start at boot has been defined: from now on
    /// [`Action::Settled`] may be said.
    AllDefined,
    /// The definition is gone: the service stops and is forgotten.
    Remove(ServiceName),
    /// An operator wants it up, with all that it requires.
    Start(ServiceName),
    /// An operator wants it down.
    Stop(ServiceName),
    /// An operator wants a new run of it.
    Restart(ServiceName),
    /// A client waits at a socket of the service, which has no run.
    Client {
        /// Whose.
        service: ServiceName,
        /// It has waited since the last run, which ended without taking it.
        left: bool,
    },
    /// The run's program runs: exec succeeded.
    Executed {
        /// Whose.
        service: ServiceName,
        /// Which run.
        run: u32,
    },
    /// The run could not be started; nothing of it is left.
    StartFailed {
        /// Whose.
        service: ServiceName,
        /// Which run.
        run: u32,
        /// Which step failed, on what, and why.
        reason: String,
    },
    /// The run ended: nothing of it is left.
    Exited {
        /// Whose.
        service: ServiceName,
        /// Which run.
        run: u32,
        /// How its main process did.
        exit: Exit,
    },
    /// The service sent a notice.
    Notified {
        /// Who.
        service: ServiceName,
        /// Which run.
        run: u32,
        /// What it said.
        notice: Notice,
    },
    /// A probe ended, or could not be made (which is unhealthy). Not sent
    /// for a probe that was cancelled.
    Probed {
        /// Whom.
        service: ServiceName,
        /// Which run.
        run: u32,
        /// The probe's answer.
        healthy: bool,
    },
    /// A deadline may have passed.
    Tick,
    /// End all. A later one replaces the earlier one's kind.
    Shutdown(Shutdown),
}

/// Something for the shell to do. What cannot be done comes back as an event
/// where one fits, and otherwise as the passing of a deadline.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// Start a run; answered by `Executed` or `StartFailed`, in the end by
    /// `Exited` unless it was `StartFailed`.
    Start {
        /// Whose.
        service: ServiceName,
        /// The run's number, by which all later events name it.
        run: u32,
    },
    /// Send the stop signal to the main process.
    Terminate {
        /// Whose.
        service: ServiceName,
        /// Which run.
        run: u32,
    },
    /// Kill the run's whole cgroup.
    Kill {
        /// Whose.
        service: ServiceName,
        /// Which run.
        run: u32,
    },
    /// Probe the run's health; answered by `Probed`.
    Probe {
        /// Whose.
        service: ServiceName,
        /// Which run.
        run: u32,
    },
    /// Turn away the clients that wait at its sockets: nothing will serve them.
    Refuse {
        /// Whose.
        service: ServiceName,
    },
    /// End the probe that is under way; its answer is not wanted any more.
    CancelProbe {
        /// Whose.
        service: ServiceName,
        /// Which run.
        run: u32,
    },
    /// The service's state has changed; for log, boot record and watchers.
    Changed {
        /// Whose.
        service: ServiceName,
        /// The new state.
        state: State,
    },
    /// Said once: every enabled service has become ready, ended or failed.
    Settled {
        /// The enabled ones that are not as they should be.
        failed: Vec<ServiceName>,
    },
    /// All is stopped or given up: end the machine. The last action ever.
    Finish(Shutdown),
}

/// What a service can say of itself, as in sd_notify(3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Notice {
    /// `READY=1`
    Ready,
    /// `RELOADING=1`
    Reloading,
    /// `STOPPING=1`
    Stopping,
    /// `WATCHDOG=1`
    Watchdog,
}

/// How the machine is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Shutdown {
    /// Power off.
    Poweroff,
    /// Start again.
    Reboot,
    /// Stop, power stays on.
    Halt,
}
