//! One service: its policy, and what it is doing.

use crate::{Failure, Health, Policy, Ready, ServiceName, State};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One service: its policy, and what it is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Service {
    pub(crate) name: ServiceName,
    pub(crate) policy: Policy,
    pub(crate) goal: Goal,
    /// Its definition is gone: forgotten as soon as it has no run.
    pub(crate) removed: bool,
    pub(crate) phase: Phase,
    pub(crate) since: Duration,
    pub(crate) run: u32,
    /// Runs in a row that ended by themselves; sets the backoff.
    pub(crate) ends: u32,
    /// When it was restarted, as far back as the limit's window.
    pub(crate) recent: Vec<Duration>,
    pub(crate) restarts: u32,
    pub(crate) failure: Option<Failure>,
}

/// What is wanted of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Goal {
    /// Nobody has asked for it yet.
    OnDemand,
    /// It is enabled, was asked for, or is required by one that is to be up.
    Up,
    /// An operator stopped it.
    Down,
}

/// [`State`] with what belongs to it. Only the last three have a run, and
/// each has exactly one: a second cannot be written down.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Phase {
    Stopped,
    Waiting {
        on: ServiceName,
    },
    Backoff {
        until: Duration,
    },
    Ended,
    Failed(Failure),
    Starting {
        terms: Terms,
        deadline: Option<Duration>,
        probing: Option<Probing>,
    },
    Ready {
        terms: Terms,
        /// The next sign of life must come before.
        watchdog: Option<Duration>,
        probing: Option<Probing>,
    },
    Stopping {
        terms: Terms,
        /// Since when it was ready, where it was.
        ready: Option<Duration>,
        cause: Cause,
        stage: Stage,
    },
}

/// What a run was started with, and keeps when the definition changes: its
/// process was told so.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Terms {
    pub(crate) ready: Ready,
    pub(crate) watchdog: Option<Duration>,
    pub(crate) health: Option<Health>,
}

/// Why a run stops, which says what its end means.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Cause {
    /// An operator, a dependency or a shutdown: not its own doing.
    Asked,
    /// It said that it stops: its exit is judged as if nobody had known.
    Itself,
    /// It failed in this way, whatever its exit.
    Failed(Failure),
}

/// How far a stop has come.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Stage {
    /// Lets those that depend on it stop first.
    Held,
    /// The stop signal is sent.
    Terminated { until: Duration },
    /// The kill is sent.
    Killed { until: Duration },
    /// Even the kill did nothing. Nobody waits for it any more.
    GivenUp,
}

/// The probes of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Probing {
    /// Failed ones in a row.
    pub(crate) failed: u32,
    /// The last answer.
    pub(crate) healthy: Option<bool>,
    pub(crate) next: NextProbe,
}

/// The probe that is due or under way: there is always one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum NextProbe {
    Due { at: Duration },
    Running { until: Duration },
}

impl Phase {
    pub(crate) fn probing(&self) -> Option<&Probing> {
        match self {
            Phase::Starting { probing, .. } | Phase::Ready { probing, .. } => probing.as_ref(),
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended
            | Phase::Failed(_)
            | Phase::Stopping { .. } => None,
        }
    }

    /// Whether there is a run: a process that has not ended yet.
    pub(crate) fn has_run(&self) -> bool {
        match self {
            Phase::Starting { .. } | Phase::Ready { .. } | Phase::Stopping { .. } => true,
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended
            | Phase::Failed(_) => false,
        }
    }

    /// Whether its run is to end and somebody still waits for that.
    pub(crate) fn is_stopping(&self) -> bool {
        match self {
            Phase::Stopping { stage, .. } => *stage != Stage::GivenUp,
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended
            | Phase::Failed(_)
            | Phase::Starting { .. }
            | Phase::Ready { .. } => false,
        }
    }
}

impl Probing {
    pub(crate) fn first(at: Duration) -> Self {
        Self {
            failed: 0,
            healthy: None,
            next: NextProbe::Due { at },
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        matches!(self.next, NextProbe::Running { .. })
    }
}

impl Service {
    pub(crate) fn new(name: ServiceName, policy: Policy, now: Duration) -> Self {
        Self {
            name,
            goal: Goal::first(&policy),
            policy,
            removed: false,
            phase: Phase::Stopped,
            since: now,
            run: 0,
            ends: 0,
            recent: Vec::new(),
            restarts: 0,
            failure: None,
        }
    }

    /// Whether those that require it may start and run.
    pub(crate) fn is_up(&self) -> bool {
        match self.phase {
            Phase::Ready { .. } => true,
            Phase::Ended => self.policy.ready == Ready::Exit,
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Failed(_)
            | Phase::Starting { .. }
            | Phase::Stopping { .. } => false,
        }
    }

    /// Forgets how it fared, as if it had never run.
    pub(crate) fn forget_failures(&mut self) {
        self.ends = 0;
        self.recent.clear();
        self.restarts = 0;
        self.failure = None;
    }

    /// Its name.
    pub fn name(&self) -> &ServiceName {
        &self.name
    }

    /// How it is supervised.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// What it is doing.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Stopped => State::Stopped,
            Phase::Waiting { on } => State::Waiting { on: on.clone() },
            Phase::Backoff { until } => State::Backoff { until: *until },
            Phase::Ended => State::Ended,
            Phase::Failed(failure) => State::Failed(failure.clone()),
            Phase::Starting { .. } => State::Starting,
            Phase::Ready { .. } => State::Ready,
            Phase::Stopping { stage, .. } => match stage {
                Stage::Held | Stage::Terminated { .. } | Stage::Killed { .. } => State::Stopping,
                Stage::GivenUp => State::Failed(Failure::StopTimeout),
            },
        }
    }

    /// Since when it has been in this state, in time since boot.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// The number of the run that is, or was last; 0 before the first. No
    /// two runs of any services have the same.
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Whether that run has not ended yet.
    pub fn has_run(&self) -> bool {
        self.phase.has_run()
    }

    /// Why the last run that ended by itself failed, where it did; forgotten
    /// when an operator starts the service again.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// The last answer of a probe of this run; `None` before the first one
    /// and where nothing is probed.
    pub fn healthy(&self) -> Option<bool> {
        self.phase.probing()?.healthy
    }

    /// How often it was restarted after it ended by itself; counted again
    /// when an operator starts it again.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }
}

impl Goal {
    pub(crate) fn first(policy: &Policy) -> Self {
        if policy.enabled {
            Goal::Up
        } else {
            Goal::OnDemand
        }
    }
}
