//! The deadlines, and what follows when one has passed.

use crate::service::{Cause, NextProbe, Phase, Service, Stage};
use crate::step::{Step, Supervisor};
use crate::{Action, Failure};
use std::time::Duration;

impl Supervisor {
    /// When the next [`Event::Tick`](crate::Event::Tick) is due, in time
    /// since boot; may be in the past.
    pub fn next_deadline(&self) -> Option<Duration> {
        if self.has_finished() {
            return None;
        }
        let services = self.services.iter().flat_map(Service::deadlines);
        services.chain(self.shutdown_deadline()).min()
    }

    /// Sees to each deadline that has passed, except that of a backoff:
    /// there it starts by the same rules as any that waits.
    pub(crate) fn expire(&mut self, step: &mut Step) {
        for at in 0..self.services.len() {
            let passed = |until: &Duration| *until <= step.now;
            match &self.services[at].phase {
                Phase::Starting { deadline, .. } => {
                    if deadline.as_ref().is_some_and(passed) {
                        self.stop_run(at, Cause::Failed(Failure::StartTimeout), step);
                    }
                    self.expire_probe(at, step);
                }
                Phase::Ready { watchdog, .. } => {
                    if watchdog.as_ref().is_some_and(passed) {
                        self.stop_run(at, Cause::Failed(Failure::Watchdog), step);
                    }
                    self.expire_probe(at, step);
                }
                Phase::Stopping { stage, .. } => match stage {
                    Stage::Terminated { until } if passed(until) => self.kill(at, step),
                    Stage::Killed { until } if passed(until) => {
                        self.set_stage(at, Stage::GivenUp, step);
                    }
                    Stage::Held
                    | Stage::Terminated { .. }
                    | Stage::Killed { .. }
                    | Stage::GivenUp => {}
                },
                Phase::Stopped
                | Phase::Waiting { .. }
                | Phase::Backoff { .. }
                | Phase::Ended
                | Phase::Failed(_) => {}
            }
        }
    }

    pub(crate) fn kill(&mut self, at: usize, step: &mut Step) {
        let service = &self.services[at];
        step.actions.push(Action::Kill {
            service: service.name.clone(),
            run: service.run,
        });
        let until = step.now.saturating_add(self.limits.kill);
        self.set_stage(at, Stage::Killed { until }, step);
    }

    pub(crate) fn set_stage(&mut self, at: usize, new: Stage, step: &mut Step) {
        let mut phase = self.services[at].phase.clone();
        if let Phase::Stopping { stage, .. } = &mut phase {
            *stage = new;
            self.enter(at, phase, step);
        }
    }
}

impl Service {
    fn deadlines(&self) -> impl Iterator<Item = Duration> {
        let own = match &self.phase {
            Phase::Backoff { until } => Some(*until),
            Phase::Starting { deadline, .. } => *deadline,
            Phase::Ready { watchdog, .. } => *watchdog,
            Phase::Stopping { stage, .. } => match stage {
                Stage::Terminated { until } | Stage::Killed { until } => Some(*until),
                Stage::Held | Stage::GivenUp => None,
            },
            Phase::Stopped | Phase::Waiting { .. } | Phase::Ended | Phase::Failed(_) => None,
        };
        let probe = self.phase.probing().map(|probing| match probing.next {
            NextProbe::Due { at } => at,
            NextProbe::Running { until } => until,
        });
        own.into_iter().chain(probe)
    }
}
