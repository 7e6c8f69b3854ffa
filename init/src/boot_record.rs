//! When each stage of the boot and each service began and was ready: what the
//! boot chart is drawn from.

use std::collections::BTreeMap;
use std::time::Duration;

use control::Span;
use serde::{Deserialize, Serialize};
use supervisor::State;

/// The record of this boot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootRecord {
    /// When PID 1's `main` began, in microseconds since boot.
    init_us: u64,
    settled_us: Option<u64>,
    stages: Vec<Span>,
    services: BTreeMap<String, Span>,
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl BootRecord {
    /// A record that begins at `now`.
    pub fn new(now: Duration) -> Self {
        Self {
            init_us: micros(now),
            ..Self::default()
        }
    }

    /// A stage of PID 1 that took from `from` to `to`.
    pub fn stage(&mut self, name: &str, from: Duration, to: Duration) {
        self.stages.push(Span {
            name: name.to_owned(),
            defined_us: micros(from),
            started_us: Some(micros(from)),
            executed_us: None,
            ready_us: Some(micros(to)),
            failed_us: None,
            requires: Vec::new(),
        });
    }

    /// A service is known from now on.
    pub fn defined(&mut self, name: &str, requires: Vec<String>, now: Duration) {
        self.services.entry(name.to_owned()).or_insert(Span {
            name: name.to_owned(),
            defined_us: micros(now),
            started_us: None,
            executed_us: None,
            ready_us: None,
            failed_us: None,
            requires,
        });
    }

    /// A service's program runs.
    pub fn executed(&mut self, name: &str, now: Duration) {
        if let Some(span) = self.services.get_mut(name) {
            span.executed_us.get_or_insert(micros(now));
        }
    }

    /// A service's state has changed. Only the first time of each counts.
    pub fn changed(&mut self, name: &str, state: &State, now: Duration) {
        let Some(span) = self.services.get_mut(name) else {
            return;
        };
        let now = micros(now);
        match state {
            State::Starting => {
                span.started_us.get_or_insert(now);
            }
            State::Ready | State::Ended => {
                span.ready_us.get_or_insert(now);
            }
            State::Failed(_) | State::Backoff { .. } if span.ready_us.is_none() => {
                span.failed_us.get_or_insert(now);
            }
            State::Stopped
            | State::Waiting { .. }
            | State::Stopping
            | State::Backoff { .. }
            | State::Failed(_) => {}
        }
    }

    /// Everything has settled: returns the seconds of the kernel and of PID 1
    /// with its services.
    pub fn settled(&mut self, now: Duration) -> (f64, f64) {
        let settled = *self.settled_us.get_or_insert(micros(now));
        let seconds = |us: u64| us as f64 / 1e6;
        (
            seconds(self.init_us),
            seconds(settled.saturating_sub(self.init_us)),
        )
    }

    /// Whether everything has settled.
    pub fn is_settled(&self) -> bool {
        self.settled_us.is_some()
    }

    /// As a client sees it.
    pub fn reply(&self, version: &str) -> control::BootRecord {
        let mut services: Vec<Span> = self.services.values().cloned().collect();
        services.sort_by_key(|span| (span.started_us.unwrap_or(u64::MAX), span.name.clone()));
        control::BootRecord {
            version: version.to_owned(),
            init_us: self.init_us,
            settled_us: self.settled_us,
            stages: self.stages.clone(),
            services,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_start_of_a_service_is_part_of_the_boot() {
        let mut record = BootRecord::new(Duration::from_secs(1));
        record.defined("web", vec![], Duration::from_secs(1));
        for second in [2, 5] {
            record.changed("web", &State::Starting, Duration::from_secs(second));
            record.executed("web", Duration::from_secs(second + 1));
            record.changed("web", &State::Ready, Duration::from_secs(second + 2));
        }
        let span = &record.reply("1").services[0];
        assert_eq!(span.started_us, Some(2_000_000));
        assert_eq!(span.executed_us, Some(3_000_000));
        assert_eq!(span.ready_us, Some(4_000_000));
        assert_eq!(span.failed_us, None);
    }

    #[test]
    fn the_time_of_the_boot_is_that_of_its_first_settling() {
        let mut record = BootRecord::new(Duration::from_millis(900));
        assert_eq!(record.settled(Duration::from_millis(1500)), (0.9, 0.6));
        assert_eq!(record.settled(Duration::from_secs(99)), (0.9, 0.6));
    }
}
