//! When a boot counts as done.

use crate::service::{Phase, Service, Stage};
use crate::step::{Step, Supervisor};
use crate::{Action, ServiceName};

/// A service that has failed so often in a row is not waited for any more,
/// though it is still being restarted: it might be so for ever. One failure
/// can be a race with a device or a peer that comes up just now.
const ENOUGH: u32 = 3;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Open,
    Good,
    Bad,
}

impl Supervisor {
    /// Says once that all enabled services have started or failed to.
    pub(crate) fn settle(&mut self, step: &mut Step) {
        if self.settled || !self.all_defined || self.ending.is_some() {
            return;
        }
        let mut failed: Vec<ServiceName> = Vec::new();
        for (at, service) in self.services.iter().enumerate() {
            if !service.policy.enabled || service.removed {
                continue;
            }
            match self.services[self.waits_for(at)].outcome() {
                Outcome::Open => return,
                Outcome::Good => {}
                Outcome::Bad => failed.push(service.name.clone()),
            }
        }
        self.settled = true;
        step.actions.push(Action::Settled { failed });
    }
}

impl Service {
    fn outcome(&self) -> Outcome {
        match &self.phase {
            // An operator's wish.
            Phase::Stopped => Outcome::Good,
            Phase::Ready { .. } | Phase::Ended => Outcome::Good,
            Phase::Failed(_) => Outcome::Bad,
            Phase::Stopping {
                stage: Stage::GivenUp,
                ..
            } => Outcome::Bad,
            Phase::Backoff { .. }
            | Phase::Starting { .. }
            | Phase::Stopping { .. }
            | Phase::Waiting { .. } => self.outcome_so_far(),
        }
    }

    /// Of one that is not up now, by its runs until now.
    fn outcome_so_far(&self) -> Outcome {
        match &self.failure {
            Some(_) if self.ends >= ENOUGH => Outcome::Bad,
            // It ended with success and is to run ever again.
            None if self.restarts > 0 => Outcome::Good,
            Some(_) | None => Outcome::Open,
        }
    }
}
