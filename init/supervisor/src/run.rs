//! What happens to a run, and what its end means.

use crate::service::{Cause, Goal, Phase, Probing, Service};
use crate::step::{Step, Supervisor};
use crate::{Exit, Failure, Notice, Ready, RestartPolicy};
use std::time::Duration;

impl Supervisor {
    pub(crate) fn executed(&mut self, at: usize, step: &mut Step) {
        let Phase::Starting { terms, probing, .. } = &mut self.services[at].phase else {
            return;
        };
        match terms.ready {
            Ready::Started => self.become_ready(at, step),
            Ready::Health => {
                probing.get_or_insert(Probing::first(step.now));
            }
            Ready::Exit | Ready::Notify => {}
        }
    }

    pub(crate) fn notified(&mut self, at: usize, notice: Notice, step: &mut Step) {
        match notice {
            Notice::Ready => {
                if let Phase::Starting { terms, .. } = &self.services[at].phase
                    && terms.ready == Ready::Notify
                {
                    self.become_ready(at, step);
                }
            }
            Notice::Watchdog => {
                if let Phase::Ready {
                    terms, watchdog, ..
                } = &mut self.services[at].phase
                {
                    *watchdog = terms.watchdog.map(|w| step.now.saturating_add(w));
                }
            }
            Notice::Stopping => self.stop_run(at, Cause::Itself, step),
            // It serves its dependents all the while.
            Notice::Reloading => {}
        }
    }

    pub(crate) fn become_ready(&mut self, at: usize, step: &mut Step) {
        let Phase::Starting { terms, probing, .. } = &self.services[at].phase else {
            return;
        };
        let (terms, probing) = (*terms, *probing);
        let ready = Phase::Ready {
            terms,
            watchdog: terms.watchdog.map(|w| step.now.saturating_add(w)),
            probing: probing.or(terms
                .health
                .map(|health| Probing::first(step.now.saturating_add(health.interval)))),
        };
        self.enter(at, ready, step);
    }

    pub(crate) fn start_failed(&mut self, at: usize, reason: String, step: &mut Step) {
        self.ended(at, Err(Failure::NotStarted(reason)), step);
    }

    pub(crate) fn exited(&mut self, at: usize, exit: Exit, step: &mut Step) {
        let service = &self.services[at];
        let (terms, was_ready) = match &service.phase {
            Phase::Starting { terms, .. } => (terms, false),
            Phase::Ready { terms, .. } => (terms, true),
            Phase::Stopping { terms, ready, .. } => (terms, ready.is_some()),
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended
            | Phase::Failed(_) => return,
        };
        let may_end = match terms.ready {
            // What ran long enough to exit was started.
            Ready::Started | Ready::Exit => true,
            Ready::Notify | Ready::Health => was_ready,
        };
        let end = if may_end && exit.is_success() {
            Ok(())
        } else {
            Err(Failure::Exit(exit))
        };
        self.ended(at, end, step);
    }

    /// The run is no more; `end` is what it would mean if nobody had asked
    /// for it.
    fn ended(&mut self, at: usize, end: Result<(), Failure>, step: &mut Step) {
        let service = &mut self.services[at];
        let (ready, cause) = match &service.phase {
            Phase::Starting { .. } => (None, Cause::Itself),
            Phase::Ready { .. } => (Some(service.since), Cause::Itself),
            Phase::Stopping { ready, cause, .. } => (*ready, cause.clone()),
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended
            | Phase::Failed(_) => return,
        };
        if ready.is_some_and(|ready| step.now.saturating_sub(ready) >= service.steady()) {
            service.ends = 0;
        }
        let end = match cause {
            Cause::Asked => return self.enter(at, Phase::Stopped, step),
            Cause::Itself => end,
            Cause::Failed(failure) => Err(failure),
        };
        service.failure = end.err();
        let next = if service.goal != Goal::Up || self.ending.is_some() {
            Phase::Stopped
        } else {
            service.after_end(step.now)
        };
        self.enter(at, next, step);
    }
}

impl Service {
    /// What follows on a run that ended by itself.
    pub(crate) fn after_end(&mut self, now: Duration) -> Phase {
        match (self.policy.restart.policy, &self.failure) {
            (RestartPolicy::Never | RestartPolicy::OnFailure, None) => {
                self.ends = 0;
                Phase::Ended
            }
            (RestartPolicy::Never, Some(failure)) => Phase::Failed(failure.clone()),
            (RestartPolicy::OnFailure, Some(_)) | (RestartPolicy::Always, _) => {
                self.restart_later(now)
            }
        }
    }

    fn restart_later(&mut self, now: Duration) -> Phase {
        let wait = self.backoff();
        self.ends = self.ends.saturating_add(1);
        if !self.may_restart(now) {
            return Phase::Failed(Failure::RestartLimit);
        }
        if self.policy.restart.limit.is_some() {
            self.recent.push(now);
        }
        self.restarts = self.restarts.saturating_add(1);
        Phase::Backoff {
            until: now.saturating_add(wait),
        }
    }

    /// Whether one more restart is within the limit.
    pub(crate) fn may_restart(&mut self, now: Duration) -> bool {
        let Some(limit) = self.policy.restart.limit else {
            return true;
        };
        self.recent
            .retain(|&restart| now.saturating_sub(restart) < limit.window);
        self.recent.len() < limit.count as usize
    }

    /// The wait before the next restart.
    fn backoff(&self) -> Duration {
        let restart = &self.policy.restart;
        let doubled = 1_u32.checked_shl(self.ends).unwrap_or(u32::MAX);
        restart
            .backoff_min
            .saturating_mul(doubled)
            .min(self.steady())
    }

    /// The longest wait, and the time ready after which a run counts as good.
    fn steady(&self) -> Duration {
        let restart = &self.policy.restart;
        restart.backoff_max.max(restart.backoff_min)
    }
}
