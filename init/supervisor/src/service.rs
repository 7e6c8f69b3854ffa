//! One service: its policy, and what it is doing.

use crate::{Failure, Policy, ServiceName, State};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// One service: its policy, and what it is doing.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Service {
    name: ServiceName,
    policy: Policy,
    state: State,
    since: Duration,
    last_run: u32,
    failure: Option<Failure>,
    healthy: Option<bool>,
    restarts: u32,
}

impl Service {
    pub(crate) fn new(name: ServiceName, policy: Policy, now: Duration) -> Self {
        Self {
            name,
            policy,
            state: State::Stopped,
            since: now,
            last_run: 0,
            failure: None,
            healthy: None,
            restarts: 0,
        }
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
        self.state.clone()
    }

    /// Since when it has been in this state, in time since boot.
    pub fn since(&self) -> Duration {
        self.since
    }

    /// The number of the run that is, or was last; 0 before the first.
    pub fn run(&self) -> u32 {
        self.last_run
    }

    /// Why the last run that ended badly did so; forgotten when an operator
    /// starts the service.
    pub fn failure(&self) -> Option<&Failure> {
        self.failure.as_ref()
    }

    /// What the probes say of the current run; `None` before the first
    /// answer and where nothing is probed.
    pub fn healthy(&self) -> Option<bool> {
        self.healthy
    }

    /// How often it was restarted after it ended by itself; counted anew
    /// when an operator starts it.
    pub fn restarts(&self) -> u32 {
        self.restarts
    }
}
