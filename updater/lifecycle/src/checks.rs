//! When the repositories are asked, and what follows from their answers.

use std::time::Duration;

use jiff::Timestamp;
use policy::Mode;
use release::{Channel, Version};

use crate::action::{Applied, Notice, Refusal, Reply};
use crate::decision::Decision;
use crate::event::{Now, RestartWhen};
use crate::lifecycle::{Lifecycle, Stage};
use crate::offers::Offers;
use crate::record::{Check, Kind};
use crate::running::Running;
use crate::work::Task;

/// After a check that failed.
const RETRY: Duration = Duration::from_secs(300);
/// On trial the answer of a repository is needed soon.
const RETRY_ON_TRIAL: Duration = Duration::from_secs(15);

impl Lifecycle {
    /// When a check begins, if nothing changes.
    pub(crate) fn check_moment(&self) -> Option<Duration> {
        let is_possible = self.stage == Stage::Serving
            && self.work.is_idle()
            && self.running.is_known()
            && !self.running.is_given_up()
            && !self.restart.is_under_way();
        is_possible.then_some(self.next_check)
    }

    /// Asks for news when it is time.
    pub(crate) fn check_when_due(&mut self, now: Now) {
        if !self.is_check_due(now) {
            return;
        }
        if self.config.repositories.is_empty() {
            // Nothing to ask: also for a release on trial, that is an answer.
            if let Some(trial) = self.running.judgement_mut() {
                trial.reached(None);
            }
            self.next_check = now.boot + self.config.check_interval;
            return;
        }
        let task = if self.running.is_on_trial() || self.config.mode == Mode::Manual {
            Task::Check
        } else if let Some(damaged) = &self.record.damaged {
            Task::Repair(damaged.root_hash)
        } else {
            Task::Update {
                restart: RestartWhen::Policy,
            }
        };
        self.begin(task, None);
    }

    /// A repository gave metadata that can be trusted.
    pub(crate) fn repository_answered(&mut self) {
        if let Some(trial) = self.running.judgement_mut() {
            trial.reached(None);
        }
    }

    /// The repositories were asked, and nothing was installed.
    pub(crate) fn checked(
        &mut self,
        now: Now,
        task: &Task,
        channel: Channel,
        decision: &Decision,
        by_hand: bool,
    ) -> Option<Reply> {
        self.was_checked(now, &decision.sentence, decision.again);
        let running = self.version();
        let found = decision.found(&running, &channel.name);
        self.offers = Offers::Known(Box::new(channel));
        match task {
            Task::Update { restart } if by_hand => {
                // Nothing of it is left to be wished for.
                self.record.standing.wish = None;
                let is_there = decision.sentence.is_empty() || found.is_up_to_date();
                Some(if is_there {
                    Reply::Applied(Applied {
                        version: running,
                        changed: false,
                        fetched: 0,
                        reused: 0,
                        restart: match restart {
                            RestartWhen::Now => "nothing to restart for".to_owned(),
                            RestartWhen::Policy | RestartWhen::Never => String::new(),
                        },
                    })
                } else {
                    Reply::Refused(Refusal::Declined(decision.sentence.clone()))
                })
            }
            Task::Repair(_) => {
                if let Some(damaged) = self.record.damaged.take() {
                    let reason = format!(
                        "{}; its slot is damaged, and no repository offers it any more",
                        damaged.reason
                    );
                    self.note_failure(now, damaged.version, reason, None);
                }
                None
            }
            Task::Check | Task::Update { .. } => Some(Reply::Checked(Box::new(found))),
            // These ask no repository.
            Task::Look
            | Task::Publish(_)
            | Task::Withdraw
            | Task::Bless
            | Task::RollBack { .. }
            | Task::Credit(_)
            | Task::Examine(_) => None,
        }
    }

    /// The repositories have answered; `again`: when it is worth asking before the
    /// next check.
    pub(crate) fn was_checked(&mut self, now: Now, found: &str, again: Option<Timestamp>) {
        let is_news = self
            .record
            .last_check
            .as_ref()
            .is_none_or(|check| check.found != found);
        if is_news {
            self.log(Notice::Checked(found.to_owned()));
        }
        let config = &self.config;
        let machine = &self.machine.id;
        let record = &mut self.record;
        record.checks += 1;
        record.last_check = Some(Check {
            time: now.clock,
            error: None,
            found: found.to_owned(),
        });
        let mut delay = policy::check_delay(config, machine, record.checks);
        if let Some(again) = again {
            // Not all machines of a wave in the same second.
            let moment = policy::check_at(config, machine, again);
            let until = moment.duration_since(now.clock);
            delay = delay.min(Duration::try_from(until).unwrap_or_default());
        }
        self.next_check = now.boot + delay;
    }

    /// No repository has answered, or what it offers could not be installed.
    pub(crate) fn check_failed(
        &mut self,
        now: Now,
        task: &Task,
        installing: Option<Version>,
        reason: &str,
    ) {
        self.offers.asked_without_answer();
        if let Some(trial) = self.running.judgement_mut() {
            trial.reached(Some(reason.to_owned()));
        }
        let is_new = self
            .record
            .last_check
            .as_ref()
            .is_none_or(|check| check.error.as_deref() != Some(reason));
        match installing {
            Some(version) => {
                self.log(Notice::InstallFailed {
                    version: version.clone(),
                    reason: reason.to_owned(),
                });
                // The same failure every five minutes would push all else out.
                if is_new {
                    let running = Some(self.version());
                    self.note(now, Kind::InstallFailed, running, version, reason, (0, 0));
                }
            }
            None if is_new => self.log(Notice::CheckFailed(reason.to_owned())),
            None => {}
        }
        self.record.last_check = Some(Check {
            time: now.clock,
            error: Some(reason.to_owned()),
            found: String::new(),
        });
        let is_trials = matches!(self.running, Running::OnTrial(_)) && *task == Task::Check;
        let delay = if is_trials {
            RETRY_ON_TRIAL
        } else {
            RETRY.min(self.config.check_interval)
        };
        self.next_check = now.boot + delay;
    }
}
