//! Whether a release on trial has proven itself. Times are those since the
//! kernel's start.
//!
//! ```text
//!            every essential service well, and a repository answered
//! waiting ──────────────── for the health time, without a break ──────▶ Healthy
//!    ├── an essential service has failed for good ────────────────────▶ Ill
//!    └── the limit is over ───────────────────────────────────────────▶ Ill
//! ```

use std::collections::BTreeMap;
use std::time::Duration;

/// How a service is, as far as the health of the release depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It is up, has done its work, or is not essential.
    Well,
    /// It is not up, and why, a sentence; that may change.
    Unwell(String),
    /// It has failed for good, and why, a sentence.
    Failed(String),
}

/// What is known by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It has not proven itself yet; look again at `until` at the latest.
    Waiting {
        /// When.
        until: Duration,
    },
    /// It has.
    Healthy,
    /// It has failed, for this reason.
    Ill(String),
}

/// The judgement under way.
#[derive(Clone, Debug)]
pub struct Trial {
    /// How long all must be well.
    time: Duration,
    /// When it is given up.
    limit: Duration,
    /// What is wrong with each essential service that is not well.
    unwell: BTreeMap<String, String>,
    /// An essential service that failed for good.
    failed: Option<String>,
    /// Whether PID 1 has told of any service yet.
    heard: bool,
    /// Why no repository has answered.
    unreachable: Option<String>,
    /// Since when all services are well.
    well_since: Option<Duration>,
    /// When it may count as healthy at the earliest.
    not_before: Duration,
}

impl Trial {
    /// Begins at `now`. A release is given up `limit` after the start, but not
    /// before it had twice the time that it needs: a first boot may check a large
    /// disk before anything else.
    pub fn new(time: Duration, limit: Duration, now: Duration) -> Self {
        Self {
            time,
            limit: limit.max(now + 2 * time),
            unwell: BTreeMap::new(),
            failed: None,
            heard: false,
            unreachable: Some("no repository was asked yet".to_owned()),
            well_since: None,
            not_before: Duration::ZERO,
        }
    }

    /// When it is given up.
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Healthy counts only from then on: what was to follow did not work.
    pub fn put_off(&mut self, until: Duration) {
        self.not_before = until;
    }

    /// PID 1 reports a service.
    pub fn observe(&mut self, name: &str, condition: &Condition, now: Duration) {
        self.heard = true;
        match condition {
            Condition::Well => {
                self.unwell.remove(name);
                if self.unwell.is_empty() && self.well_since.is_none() {
                    self.well_since = Some(now);
                }
            }
            Condition::Unwell(why) => self.is_unwell(name, why),
            Condition::Failed(why) => {
                self.failed = Some(why.clone());
                self.is_unwell(name, why);
            }
        }
    }

    fn is_unwell(&mut self, name: &str, why: &str) {
        self.unwell.insert(name.to_owned(), why.to_owned());
        self.well_since = None;
    }

    /// A repository was asked; `error` is why that did not work.
    pub fn reached(&mut self, error: Option<String>) {
        match error {
            None => self.unreachable = None,
            // One answer is enough, whatever comes after.
            Some(error) if self.unreachable.is_some() => self.unreachable = Some(error),
            Some(_) => {}
        }
    }

    /// What is known at `now`.
    pub fn verdict(&self, now: Duration) -> Verdict {
        if let Some(why) = &self.failed {
            return Verdict::Ill(why.clone());
        }
        let proven = self.well_since.map(|since| since + self.time);
        if let Some(proven) = proven
            && self.unreachable.is_none()
            && now >= proven
        {
            return if now >= self.not_before {
                Verdict::Healthy
            } else {
                Verdict::Waiting {
                    until: self.not_before,
                }
            };
        }
        if now >= self.limit {
            return Verdict::Ill(format!(
                "it had not proven itself {} s after the start: {}",
                self.limit.as_secs(),
                self.waits_for(now).join("; ")
            ));
        }
        Verdict::Waiting {
            until: proven
                .filter(|proven| *proven > now)
                .map_or(self.limit, |proven| proven.min(self.limit)),
        }
    }

    /// Whether nothing is missing but a repository's answer.
    pub fn lacks_only_server(&self, now: Duration) -> bool {
        self.failed.is_none()
            && self.unreachable.is_some()
            && self
                .well_since
                .is_some_and(|since| since + self.time <= now)
    }

    /// Without absolute times, for the exploration.
    #[cfg(test)]
    pub(crate) fn relative(&mut self, now: Duration) {
        self.limit = self.limit.saturating_sub(now);
        self.not_before = self.not_before.saturating_sub(now);
        // How much of the time is left.
        self.well_since = self
            .well_since
            .map(|since| (since + self.time).saturating_sub(now));
    }

    /// What it still waits for, a sentence each.
    pub fn waits_for(&self, now: Duration) -> Vec<String> {
        let mut all: Vec<String> = self.unwell.values().cloned().collect();
        if !self.heard {
            all.push("PID 1 has told nothing of its services".to_owned());
        }
        if let Some(why) = &self.unreachable {
            all.push(format!("no repository answers: {why}"));
        }
        if let Some(since) = self.well_since {
            let left = (since + self.time).saturating_sub(now);
            if !left.is_zero() {
                all.push(format!(
                    "all essential services must be well for {} s more",
                    left.as_secs().max(1)
                ));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unwell(why: &str) -> Condition {
        Condition::Unwell(why.to_owned())
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// 60 s of health within 600 s, begun 10 s after the start.
    fn trial() -> Trial {
        Trial::new(seconds(60), seconds(600), seconds(10))
    }

    #[test]
    fn a_release_is_healthy_when_all_was_well_long_enough_and_a_repository_answered() {
        let mut trial = trial();
        trial.observe("log", &Condition::Well, seconds(11));
        trial.observe("state", &Condition::Well, seconds(12));
        assert_eq!(
            trial.verdict(seconds(70)),
            Verdict::Waiting { until: seconds(71) }
        );
        // Without a repository the time alone is not enough.
        assert_eq!(
            trial.verdict(seconds(72)),
            Verdict::Waiting {
                until: seconds(600)
            }
        );
        trial.reached(None);
        trial.reached(Some("gone again".into()));
        assert_eq!(trial.verdict(seconds(72)), Verdict::Healthy);
    }

    #[test]
    fn a_break_starts_the_time_again() {
        let mut trial = trial();
        trial.reached(None);
        trial.observe("web", &Condition::Well, seconds(20));
        trial.observe("web", &unwell("it is in backoff"), seconds(70));
        trial.observe("web", &Condition::Well, seconds(71));
        assert_eq!(
            trial.verdict(seconds(90)),
            Verdict::Waiting {
                until: seconds(131)
            }
        );
        trial.observe("web", &unwell("it is unhealthy"), seconds(130));
        assert!(matches!(
            trial.verdict(seconds(140)),
            Verdict::Waiting { .. }
        ));
    }

    #[test]
    fn an_essential_service_that_failed_for_good_ends_it_at_once() {
        let mut trial = trial();
        let why = "the essential service web has failed for good: exited with 3";
        trial.observe("web", &Condition::Failed(why.into()), seconds(20));
        assert_eq!(trial.verdict(seconds(20)), Verdict::Ill(why.into()));
    }

    #[test]
    fn what_is_not_proven_at_the_limit_has_failed_and_says_what_was_missing() {
        let mut trial = trial();
        let why = "the service network is starting: asks for an address";
        trial.observe("network", &unwell(why), seconds(11));
        trial.reached(Some("connection refused".into()));
        let Verdict::Ill(why) = trial.verdict(seconds(600)) else {
            panic!("{:?}", trial.verdict(seconds(600)))
        };
        assert_eq!(
            why,
            "it had not proven itself 600 s after the start: the service network is starting: \
             asks for an address; no repository answers: connection refused"
        );
    }

    #[test]
    fn a_release_that_lacks_only_the_server_is_told_from_a_sick_one() {
        let mut trial = trial();
        trial.observe("log", &Condition::Well, seconds(20));
        assert!(!trial.lacks_only_server(seconds(79)));
        assert!(trial.lacks_only_server(seconds(80)));
        trial.observe("log", &unwell("it is in backoff"), seconds(81));
        assert!(!trial.lacks_only_server(seconds(600)));
    }

    #[test]
    fn a_late_start_leaves_time_enough() {
        let trial = Trial::new(seconds(60), seconds(600), seconds(590));
        assert_eq!(trial.limit(), seconds(710));
    }
}
