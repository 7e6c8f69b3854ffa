//! Health probes.

use crate::service::{Cause, NextProbe, Phase};
use crate::step::{Step, Supervisor};
use crate::{Action, Failure, Health};
use std::time::Duration;

/// The longest time between two probes of a service that is not ready yet:
/// what waits for it waits half of that in the mean.
const STARTING_INTERVAL: Duration = Duration::from_millis(500);

/// The shortest interval and timeout; a definition's zero would make the
/// shell tick without end.
const SHORTEST: Duration = Duration::from_millis(1);

impl Supervisor {
    /// Makes the probe that is due, and ends the one that takes too long.
    pub(crate) fn expire_probe(&mut self, at: usize, step: &mut Step) {
        let service = &mut self.services[at];
        let (Phase::Starting { terms, probing, .. } | Phase::Ready { terms, probing, .. }) =
            &mut service.phase
        else {
            return;
        };
        let (Some(probing), Some(health)) = (probing, terms.health) else {
            return;
        };
        match probing.next {
            NextProbe::Due { at: due } if due <= step.now => {
                probing.next = NextProbe::Running {
                    until: step.now.saturating_add(health.timeout.max(SHORTEST)),
                };
                step.actions.push(Action::Probe {
                    service: service.name.clone(),
                    run: service.run,
                });
            }
            NextProbe::Running { until } if until <= step.now => {
                step.actions.push(Action::CancelProbe {
                    service: service.name.clone(),
                    run: service.run,
                });
                self.probed(at, false, step);
            }
            NextProbe::Due { .. } | NextProbe::Running { .. } => {}
        }
    }

    pub(crate) fn probed(&mut self, at: usize, healthy: bool, step: &mut Step) {
        let (starting, health, probing) = match &mut self.services[at].phase {
            Phase::Starting { terms, probing, .. } => (true, terms.health, probing),
            Phase::Ready { terms, probing, .. } => (false, terms.health, probing),
            Phase::Stopped
            | Phase::Waiting { .. }
            | Phase::Backoff { .. }
            | Phase::Ended
            | Phase::Failed(_)
            | Phase::Stopping { .. } => return,
        };
        let (Some(health), Some(probing)) = (health, probing) else {
            return;
        };
        if !probing.is_running() {
            return;
        }
        let interval = if starting && !healthy {
            health.interval.min(STARTING_INTERVAL)
        } else {
            health.interval
        };
        probing.next = NextProbe::Due {
            at: step.now.saturating_add(interval.max(SHORTEST)),
        };
        probing.healthy = Some(healthy);
        if healthy {
            probing.failed = 0;
            self.become_ready(at, step);
        } else if !starting {
            probing.failed = probing.failed.saturating_add(1);
            if is_unhealthy(health, probing.failed) {
                self.stop_run(at, Cause::Failed(Failure::Unhealthy), step);
            }
        }
    }
}

fn is_unhealthy(health: Health, failed: u32) -> bool {
    failed >= health.retries.max(1)
}
