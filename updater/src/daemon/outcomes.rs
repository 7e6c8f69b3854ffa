//! The worker's news, and what follows from them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use release::{Channel, Manifest};
use slots::View;
use updater_control::{Applied, Reboot, Refusal, Reply};

use super::{Daemon, Job, Purpose, RETRY_CHECK, RETRY_ON_TRIAL, now};
use crate::decision::Decision;
use crate::error::Error;
use crate::install::Spent;
use crate::record::{Check, Kind, Staged};
use crate::say::{self, Level};
use crate::worker::{Done, Failed, News, Order};

/// After the disk did not take a blessing.
const RETRY_BLESS: Duration = Duration::from_secs(60);

impl Daemon {
    /// The worker reports.
    pub(super) fn hear(&mut self, news: News) {
        match news {
            News::Progress(progress) => {
                if let Some(job) = &mut self.job {
                    job.progress = progress.clone();
                    if let Some(client) = &job.client {
                        // One that has gone away stops nothing.
                        let _ = client.send(Reply::Progress(progress));
                    }
                }
            }
            News::Answered => {
                if let Some(trial) = &mut self.trial {
                    trial.reached(None);
                }
            }
            News::Installing(manifest) => say::event(
                Level::Notice,
                "installing",
                &[("version", &manifest.version)],
                &format!("installing {}", manifest.version),
            ),
            News::Ended(result, view) => {
                self.look_at(view);
                if let Some(job) = self.job.take() {
                    match result {
                        Ok(done) => self.done(job, done),
                        Err(failed) => self.failed(job, failed),
                    }
                }
            }
        }
    }

    fn look_at(&mut self, view: Result<Box<View>, String>) {
        match view {
            Ok(view) => {
                self.view = Some(*view);
                self.disk_problem = None;
            }
            Err(problem) => {
                if self.disk_problem.as_ref() != Some(&problem) {
                    say::event(Level::Error, "disk", &[], &problem);
                }
                self.disk_problem = Some(problem);
            }
        }
    }

    fn done(&mut self, job: Job, done: Done) {
        let Job {
            purpose, client, ..
        } = job;
        let reply = match done {
            Done::Looked => {
                self.judge_boot();
                None
            }
            Done::Checked { channel, decision } => {
                self.checked(&purpose, channel, &decision, client.is_some())
            }
            Done::Installed {
                channel,
                manifest,
                spent,
            } => {
                let by_hand = client.is_some();
                Some(self.installed(&purpose, by_hand, channel, *manifest, &spent))
            }
            Done::Changed(spent) => self.changed(&purpose, &spent),
            Done::Examined { whole } => {
                self.examined(whole);
                None
            }
        };
        answer(client, reply);
    }

    /// The repositories were asked, and nothing was installed.
    fn checked(
        &mut self,
        purpose: &Purpose,
        channel: Channel,
        decision: &Decision,
        by_hand: bool,
    ) -> Option<Reply> {
        self.was_checked(&decision.sentence, decision.again);
        let running = self.machine.version.to_string();
        let answer = decision.checked(&running, &channel.name);
        self.channel = Some(channel);
        match purpose {
            Purpose::Update { reboot } if by_hand => {
                // Nothing of it is left to be wished for.
                self.keeper.record.standing.wish = None;
                let is_there = decision.sentence.is_empty() || is_up_to_date(&answer);
                Some(if is_there {
                    Reply::Applied(Applied {
                        version: running,
                        changed: false,
                        fetched: 0,
                        reused: 0,
                        reboot: match reboot {
                            Reboot::Now => "nothing to restart for".to_owned(),
                            Reboot::Policy | Reboot::Never => String::new(),
                        },
                    })
                } else {
                    Reply::Refused(Refusal::Declined {
                        message: decision.sentence.clone(),
                    })
                })
            }
            Purpose::Mend => {
                if let Some(damaged) = self.keeper.record.damaged.take() {
                    let reason = format!(
                        "{}; its slot is damaged, and no repository offers it any more",
                        damaged.reason
                    );
                    self.note_failure(damaged.version, reason, None);
                }
                None
            }
            _ => Some(Reply::Checked(Box::new(answer))),
        }
    }

    fn was_checked(&mut self, found: &str, again: Option<Timestamp>) {
        let config = &self.settings.config;
        let record = &mut self.keeper.record;
        let is_news = record
            .last_check
            .as_ref()
            .is_none_or(|check| check.found != found);
        if is_news {
            say::event(Level::Info, "checked", &[], found);
        }
        record.checks += 1;
        self.has_asked = true;
        record.last_check = Some(Check {
            time: Timestamp::now(),
            error: None,
            found: found.to_owned(),
        });
        let mut delay = policy::check_delay(config, &self.machine.id, record.checks);
        if let Some(again) = again {
            // Not all machines of a wave in the same second.
            let moment = policy::check_at(config, &self.machine.id, again);
            let until = moment.duration_since(Timestamp::now());
            delay = delay.min(Duration::try_from(until).unwrap_or_default());
        }
        self.next_check = now() + delay;
    }

    /// A release is complete on the disk.
    fn installed(
        &mut self,
        purpose: &Purpose,
        by_hand: bool,
        channel: Channel,
        manifest: Manifest,
        spent: &Spent,
    ) -> Reply {
        self.was_checked(&format!("{} was installed", manifest.version), None);
        self.channel = Some(channel);
        self.switched = true;
        let version = manifest.version.clone();
        let running = self.machine.version.clone();
        for dropped in &spent.dropped {
            say::event(Level::Warning, "mirror-dropped", &[], dropped);
        }
        let changed = spent.has_changed();
        if changed {
            say::event(
                Level::Notice,
                "installed",
                &[
                    ("version", &version),
                    ("from", &running),
                    ("fetched", &spent.fetched),
                    ("reused", &spent.reused),
                ],
                &format!("{version} is installed"),
            );
            let kind = if *purpose == Purpose::Mend {
                Kind::Mended
            } else {
                Kind::Installed
            };
            let reason = match (&kind, &self.keeper.record.damaged) {
                (Kind::Mended, Some(damaged)) => {
                    format!("its slot was damaged: {}", damaged.reason)
                }
                _ => String::new(),
            };
            let bytes = (spent.fetched, spent.reused);
            self.note(kind, Some(running.clone()), version.clone(), &reason, bytes);
        }
        if self.keeper.record.damaged.as_ref().map(|it| it.root_hash) == Some(manifest.root_hash) {
            self.keeper.record.damaged = None;
        }
        let standing = &mut self.keeper.record.standing;
        // What was tried again on purpose starts afresh.
        standing.failed.retain(|failure| failure.version != version);
        let is_older = version < running;
        if is_older && let Some(left) = self.machine.root_hash {
            self.keeper.record.left.push(left);
        }
        let before = self
            .keeper
            .record
            .staged
            .as_ref()
            .filter(|staged| staged.root_hash == manifest.root_hash);
        // A check finds again what is there already.
        let since = before.map_or_else(Timestamp::now, |staged| staged.since);
        let reboot = match (purpose, before) {
            (_, Some(staged)) if !by_hand => staged.reboot,
            (Purpose::Update { reboot }, _) => *reboot,
            _ => Reboot::Policy,
        };
        self.keeper.record.staged = Some(Staged {
            version: version.clone(),
            root_hash: manifest.root_hash,
            since,
            reboot,
            manifest: spent.is_withheld.then(|| Box::new(manifest)),
        });
        self.reboot_again = None;
        let mut sentence = self.reboot_sentence();
        if is_older {
            sentence += &format!(
                "; once it runs, the channel's newest is taken again: \
                 `wherry update pin {version}` keeps it"
            );
        }
        Reply::Applied(Applied {
            version: version.to_string(),
            changed,
            fetched: spent.fetched,
            reused: spent.reused,
            reboot: sentence,
        })
    }

    /// The disk was changed without a repository.
    fn changed(&mut self, purpose: &Purpose, spent: &Spent) -> Option<Reply> {
        match purpose {
            Purpose::Bless => {
                self.blessed();
                None
            }
            Purpose::Credit => {
                self.credited();
                None
            }
            Purpose::Publish => {
                if let Some(staged) = &mut self.keeper.record.staged {
                    staged.manifest = None;
                }
                self.switched = true;
                None
            }
            Purpose::Withdraw => None,
            Purpose::RollBack { reboot } => Some(self.rolled_back(*reboot, spent)),
            Purpose::Look
            | Purpose::Check
            | Purpose::Update { .. }
            | Purpose::Mend
            | Purpose::Examine => None,
        }
    }

    fn credited(&mut self) {
        let version = self.machine.version.clone();
        if let Some(hash) = self.machine.root_hash {
            let credits = &mut self.keeper.record.credits;
            *credits.entry(hash.to_string()).or_default() += 1;
        }
        let reason = "the boot before ended without its fault";
        say::event(
            Level::Notice,
            "credited",
            &[("version", &version)],
            &format!("{version} is given a try back: {reason}"),
        );
        self.note(Kind::Credited, None, version, reason, (0, 0));
    }

    fn rolled_back(&mut self, reboot: Reboot, spent: &Spent) -> Reply {
        self.switched = true;
        let running = self.machine.version.clone();
        let next = self.view.as_ref().and_then(|view| {
            let entry = slots::loader_choice(&view.entries)?;
            Some((entry.version.clone(), entry.root_hash?))
        });
        let Some((version, root_hash)) = next else {
            return Reply::Refused(Refusal::Failed {
                message: "the disk has no boot entry after the roll-back".to_owned(),
            });
        };
        if let Some(left) = self.machine.root_hash {
            self.keeper.record.left.push(left);
        }
        // Otherwise the next check would bring it back.
        self.note_failure(running.clone(), "rolled back by hand".to_owned(), None);
        self.keeper.record.standing.wish = None;
        self.keeper.record.staged = Some(Staged {
            version: version.clone(),
            root_hash,
            since: Timestamp::now(),
            reboot,
            manifest: None,
        });
        say::event(
            Level::Notice,
            "rolled-back",
            &[("version", &version), ("from", &running)],
            &format!("{version} boots next instead of {running}"),
        );
        self.note(
            Kind::RolledBack,
            Some(running),
            version.clone(),
            "by hand",
            (0, 0),
        );
        self.reboot_again = None;
        Reply::Applied(Applied {
            version: version.to_string(),
            changed: spent.has_changed(),
            fetched: 0,
            reused: 0,
            reboot: self.reboot_sentence(),
        })
    }

    /// A blessed release's slot was read after it had given way.
    fn examined(&mut self, whole: bool) {
        let Some(damaged) = self.keeper.record.damaged.clone() else {
            return;
        };
        if whole {
            self.keeper.record.damaged = None;
            self.note_failure(damaged.version, damaged.reason, None);
            return;
        }
        say::event(
            Level::Error,
            "slot-damaged",
            &[("version", &damaged.version)],
            &format!(
                "the slot of {} is damaged; it is written anew as soon as a repository answers",
                damaged.version
            ),
        );
        self.next_check = now();
    }

    fn failed(&mut self, job: Job, failed: Failed) {
        let Failed { error, installing } = failed;
        let sentence = error.sentence();
        let Job {
            purpose, client, ..
        } = job;
        match purpose {
            Purpose::Check | Purpose::Update { .. } | Purpose::Mend => {
                if client.is_some() {
                    self.keeper.record.standing.wish = None;
                }
                self.check_failed(&purpose, installing, &sentence);
            }
            Purpose::Publish => {
                say::event(Level::Error, "publish-failed", &[], &sentence);
                self.reboot_failed(&sentence);
            }
            Purpose::Bless => {
                // The next boot is counted again; there is time to look into it.
                say::event(Level::Error, "bless-failed", &[], &sentence);
                self.next_bless_try();
            }
            Purpose::Credit | Purpose::Examine | Purpose::Withdraw | Purpose::Look => {
                say::event(Level::Error, "disk", &[], &sentence);
                self.judge_boot();
            }
            Purpose::RollBack { .. } => {
                say::event(Level::Warning, "rollback-failed", &[], &sentence);
            }
        }
        let declined = matches!(
            error,
            Error::Refused(_) | Error::Declined(_) | Error::Setting(_) | Error::NoSource
        );
        let refusal = if declined {
            Refusal::Declined { message: sentence }
        } else {
            Refusal::Failed { message: sentence }
        };
        answer(client, Some(Reply::Refused(refusal)));
    }

    fn check_failed(
        &mut self,
        purpose: &Purpose,
        installing: Option<release::Version>,
        sentence: &str,
    ) {
        self.has_asked = true;
        if let Some(trial) = &mut self.trial {
            trial.reached(Some(sentence.to_owned()));
        }
        let is_new = self
            .keeper
            .record
            .last_check
            .as_ref()
            .is_none_or(|check| check.error.as_deref() != Some(sentence));
        match installing {
            Some(version) => {
                say::event(
                    Level::Error,
                    "install-failed",
                    &[("version", &version), ("reason", &sentence)],
                    &format!("{version} is not installed: {sentence}"),
                );
                // The same failure every five minutes would push all else out.
                if is_new {
                    let running = Some(self.machine.version.clone());
                    self.note(Kind::InstallFailed, running, version, sentence, (0, 0));
                }
            }
            None if is_new => say::event(Level::Warning, "check-failed", &[], sentence),
            None => {}
        }
        self.keeper.record.last_check = Some(Check {
            time: Timestamp::now(),
            error: Some(sentence.to_owned()),
            found: String::new(),
        });
        let delay = if self.trial_is_on() && *purpose == Purpose::Check {
            RETRY_ON_TRIAL
        } else {
            RETRY_CHECK.min(self.settings.config.check_interval)
        };
        self.next_check = now() + delay;
    }

    fn next_bless_try(&mut self) {
        if let Some(trial) = &mut self.trial {
            trial.put_off(now() + RETRY_BLESS);
        }
    }

    /// Takes away what is staged and not wanted any more.
    pub(super) fn withdraw(&mut self, why: &str) {
        let Some(staged) = self.keeper.record.staged.take() else {
            return;
        };
        say::event(
            Level::Warning,
            "withdrawn",
            &[("version", &staged.version)],
            &format!("{} is not booted: {why}", staged.version),
        );
        let since = Timestamp::now().duration_since(staged.since);
        if staged.manifest.is_some() && since >= SignedDuration::ZERO {
            self.queue.push_back((Purpose::Withdraw, Order::Withdraw));
        }
    }
}

fn is_up_to_date(answer: &updater_control::Checked) -> bool {
    answer.available.is_none() && answer.reason == crate::decision::UP_TO_DATE
}

fn answer(client: Option<tokio::sync::mpsc::UnboundedSender<Reply>>, reply: Option<Reply>) {
    if let Some(client) = client {
        let reply = reply.unwrap_or(Reply::Done { notes: Vec::new() });
        // One that has gone away has seen enough.
        let _ = client.send(reply);
    }
}
