//! The end of all: stops in order, and ends in bounded time.

use crate::service::{Cause, Phase, Stage};
use crate::step::{Ending, Step, Supervisor};
use crate::{Action, ServiceName, Shutdown};
use std::time::Duration;

impl Supervisor {
    pub(crate) fn has_finished(&self) -> bool {
        self.ending.as_ref().is_some_and(|ending| ending.finished)
    }

    pub(crate) fn shut_down(&mut self, kind: Shutdown, step: &mut Step) {
        if let Some(ending) = &mut self.ending {
            ending.kind = kind;
            return;
        }
        self.ending = Some(Ending {
            kind,
            deadline: step.now.saturating_add(self.limits.shutdown),
            finished: false,
        });
        for at in 0..self.services.len() {
            match &self.services[at].phase {
                Phase::Waiting { .. } | Phase::Backoff { .. } => {
                    self.enter(at, Phase::Stopped, step);
                }
                Phase::Starting { .. } | Phase::Ready { .. } => {
                    self.stop_run(at, Cause::Asked, step);
                }
                Phase::Stopped | Phase::Ended | Phase::Failed(_) | Phase::Stopping { .. } => {}
            }
        }
    }

    /// When all that is left is killed, while there is something to kill.
    pub(crate) fn shutdown_deadline(&self) -> Option<Duration> {
        let ending = self.ending.as_ref()?;
        let to_kill = |at| self.is_to_kill(at);
        (0..self.services.len())
            .any(to_kill)
            .then_some(ending.deadline)
    }

    /// While the machine ends: each service whose end is waited for, and when it is
    /// killed, or given up where it was killed already, at the latest.
    pub fn awaited(&self) -> impl Iterator<Item = (&ServiceName, Duration)> {
        let ending = self.ending.iter();
        ending.flat_map(|ending| {
            self.services.iter().filter_map(|service| {
                let Phase::Stopping { stage, .. } = &service.phase else {
                    return None;
                };
                let until = match stage {
                    Stage::Held => ending.deadline,
                    Stage::Terminated { until } => ending.deadline.min(*until),
                    Stage::Killed { until } => *until,
                    Stage::GivenUp => return None,
                };
                Some((&service.name, until))
            })
        })
    }

    fn is_to_kill(&self, at: usize) -> bool {
        match &self.services[at].phase {
            Phase::Stopping { stage, .. } => match stage {
                Stage::Held | Stage::Terminated { .. } => true,
                Stage::Killed { .. } | Stage::GivenUp => false,
            },
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended
            | Phase::Failed(_)
            | Phase::Starting { .. }
            | Phase::Ready { .. } => false,
        }
    }

    /// Kills what is left at the deadline; says when nothing is left.
    pub(crate) fn finish(&mut self, step: &mut Step) {
        let Some(ending) = &self.ending else {
            return;
        };
        if ending.deadline <= step.now {
            for at in 0..self.services.len() {
                if self.is_to_kill(at) {
                    self.kill(at, step);
                }
            }
        }
        let left = self.services.iter().any(|s| s.phase.is_stopping());
        if let Some(ending) = &mut self.ending
            && !left
        {
            ending.finished = true;
            step.actions.push(Action::Finish(ending.kind));
        }
    }
}
