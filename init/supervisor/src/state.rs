//! The state of one service, as others see it.

use crate::ServiceName;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::time::Duration;

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Exit {
    /// By itself, with this exit code; 0 is success.
    Code(i32),
    /// Killed by this signal.
    Signal(i32),
    /// Killed with all of its processes because memory ran out.
    OutOfMemory,
}

impl Exit {
    /// Whether the program ended with success.
    pub fn is_success(self) -> bool {
        self == Exit::Code(0)
    }
}

/// What a service is doing. The diagram is in the crate's header.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Down; and not wanted, unless another state follows in the same step.
    Stopped,
    /// Wanted, and starts as soon as this other service lets it.
    Waiting {
        /// The first one that it waits for.
        on: ServiceName,
    },
    /// Its run is not ready yet.
    Starting,
    /// Its run is ready.
    Ready,
    /// Its run is to end.
    Stopping,
    /// Ended by itself, and is started again.
    Backoff {
        /// When, in time since boot.
        until: Duration,
    },
    /// Ended as it should.
    Ended,
    /// Down, though it should be up.
    Failed(Failure),
}

/// Why a service failed.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Failure {
    /// Its program ended when it should not have.
    Exit(Exit),
    /// It could not be started, for this reason.
    NotStarted(String),
    /// It did not get ready in time.
    StartTimeout,
    /// It did not say `WATCHDOG=1` in time.
    Watchdog,
    /// Its probes failed.
    Unhealthy,
    /// It was started for a client, and ended without taking it.
    ClientLeft,
    /// It was killed and still has not ended. Lasts until it ends.
    StopTimeout,
    /// It failed too often; [`Service::failure`](crate::Service::failure)
    /// has the last cause.
    RestartLimit,
    /// This one, which it requires, failed or ended. Lasts until that is up.
    Dependency(ServiceName),
    /// This one, which it requires, is not defined. Lasts until it is.
    MissingDependency(ServiceName),
    /// It waits for itself, by way of these, each of which waits for the
    /// next. Lasts until one of them is defined again.
    Cycle(Vec<ServiceName>),
}

impl Failure {
    /// Whether it lies with another service, and is over when that is repaired.
    pub(crate) fn mends_itself(&self) -> bool {
        match self {
            Failure::Dependency(_) | Failure::MissingDependency(_) | Failure::Cycle(_) => true,
            Failure::Exit(_)
            | Failure::NotStarted(_)
            | Failure::StartTimeout
            | Failure::Watchdog
            | Failure::Unhealthy
            | Failure::ClientLeft
            | Failure::StopTimeout
            | Failure::RestartLimit => false,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            State::Stopped => out.write_str("stopped"),
            State::Waiting { on } => write!(out, "waiting for {on}"),
            State::Starting => out.write_str("starting"),
            State::Ready => out.write_str("ready"),
            State::Stopping => out.write_str("stopping"),
            State::Backoff { .. } => out.write_str("waiting to restart"),
            State::Ended => out.write_str("ended"),
            State::Failed(failure) => write!(out, "failed: {failure}"),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Exit(Exit::Code(code)) => write!(out, "exited with {code}"),
            Failure::Exit(Exit::Signal(signal)) => write!(out, "killed by signal {signal}"),
            Failure::Exit(Exit::OutOfMemory) => out.write_str("ran out of memory"),
            Failure::NotStarted(reason) => write!(out, "could not be started: {reason}"),
            Failure::StartTimeout => out.write_str("not ready in time"),
            Failure::Watchdog => out.write_str("no sign of life in time"),
            Failure::Unhealthy => out.write_str("unhealthy"),
            Failure::ClientLeft => out.write_str("ended without taking its client"),
            Failure::StopTimeout => out.write_str("killed, but does not end"),
            Failure::RestartLimit => out.write_str("failed too often"),
            Failure::Dependency(name) => write!(out, "{name}, which it requires, is not up"),
            Failure::MissingDependency(name) => {
                write!(out, "{name}, which it requires, is not defined")
            }
            Failure::Cycle(names) => {
                out.write_str("waits for itself: ")?;
                for name in names {
                    write!(out, "{name} → ")?;
                }
                match names.first() {
                    Some(first) => write!(out, "{first}"),
                    None => Ok(()),
                }
            }
        }
    }
}
