//! A supervisor without what tells apart states from which the same follows.

use crate::service::{NextProbe, Phase, Probing, Service, Stage};
use crate::{Failure, Supervisor};
use std::time::Duration;

/// With so many `ends` the backoff of the services explored is the longest,
/// and with so many nobody waits any more until they settle.
const LONGEST_BACKOFF: u32 = 1;
const NOT_WAITED_FOR: u32 = 3;

/// The machine as seen from `now`: times to come as the time until then, past
/// ones as their age as far as that matters, runs without their number.
pub(super) fn relative(mut seen: Supervisor, now: Duration) -> Supervisor {
    seen.last_run = 0;
    if let Some(ending) = &mut seen.ending {
        ending.deadline = ending.deadline.saturating_sub(now);
    }
    // How a service fared matters for restarts and until all has settled.
    let is_over = seen.ending.is_some();
    let has_settled = seen.settled || is_over;
    for service in &mut seen.services {
        see(service, now);
        if has_settled {
            service.restarts = 0;
            service.failure = None;
            service.ends = service.ends.min(LONGEST_BACKOFF);
        }
        if is_over {
            service.ends = 0;
            service.recent.clear();
        }
        if service.ends == 0
            && let Phase::Ready { .. } = service.phase
        {
            service.since = Duration::ZERO;
        }
        if service.ends == 0
            && let Phase::Stopping { ready, .. } = &mut service.phase
        {
            ready.iter_mut().for_each(|ready| *ready = Duration::ZERO);
        }
    }
    seen
}

fn see(service: &mut Service, now: Duration) {
    let restart = &service.policy.restart;
    let long = restart.backoff_max.max(restart.backoff_min);
    let until = |time: &mut Duration| *time = time.saturating_sub(now);
    let age = |time: &mut Duration| *time = now.saturating_sub(*time).min(long);
    match restart.limit {
        Some(limit) => {
            service
                .recent
                .iter_mut()
                .for_each(|restart| *restart = now.saturating_sub(*restart));
            service.recent.retain(|age| *age < limit.window);
        }
        None => service.recent.clear(),
    }
    service.run = 0;
    service.restarts = service.restarts.min(1);
    service.ends = service.ends.min(NOT_WAITED_FOR);
    // Only whether there is one decides something.
    if let Some(failure) = &mut service.failure {
        *failure = Failure::RestartLimit;
    }
    match &mut service.phase {
        Phase::Ready {
            watchdog, probing, ..
        } => {
            age(&mut service.since);
            watchdog.iter_mut().for_each(until);
            probing
                .iter_mut()
                .for_each(|probing| see_probe(probing, now));
            return;
        }
        Phase::Backoff { until: restart } => until(restart),
        Phase::Starting {
            deadline, probing, ..
        } => {
            deadline.iter_mut().for_each(until);
            probing
                .iter_mut()
                .for_each(|probing| see_probe(probing, now));
        }
        Phase::Stopping { ready, stage, .. } => {
            ready.iter_mut().for_each(age);
            match stage {
                Stage::Terminated { until: end } | Stage::Killed { until: end } => until(end),
                Stage::Held | Stage::GivenUp => {}
            }
        }
        Phase::Stopped | Phase::Waiting { .. } | Phase::Ended | Phase::Failed(_) => {}
    }
    service.since = Duration::ZERO;
}

fn see_probe(probing: &mut Probing, now: Duration) {
    match &mut probing.next {
        NextProbe::Due { at: time } | NextProbe::Running { until: time } => {
            *time = time.saturating_sub(now);
        }
    }
}
