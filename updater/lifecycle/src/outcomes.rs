//! The worker's news, and what follows from them.

use jiff::Timestamp;
use release::{Channel, Manifest};

use crate::action::{Action, Applied, Notice, Refusal, Reply};
use crate::event::{Done, Failed, News, Now, RestartWhen, Spent};
use crate::lifecycle::Lifecycle;
use crate::offers::Offers;
use crate::record::{Kind, Staged};
use crate::work::{Job, Task};

impl Lifecycle {
    /// The worker reports.
    pub(crate) fn hear(&mut self, now: Now, news: News) {
        match news {
            News::Progress(progress) => self.work.set_progress(progress),
            News::Answered => self.repository_answered(),
            News::Installing(version) => self.log(Notice::Installing(version)),
            News::Ended { result, view } => {
                if let Some(problem) = self.disk.seen(view) {
                    self.log(Notice::DiskFailed(problem));
                }
                let Some(Job { task, client, .. }) = self.work.take_job() else {
                    return;
                };
                let by_hand = client.is_some();
                let reply = match result {
                    Ok(done) => self.done(now, &task, by_hand, done),
                    Err(failed) => Some(self.failed(now, &task, by_hand, failed)),
                };
                if let Some(client) = client {
                    self.act(Action::Answer(client, reply.unwrap_or(Reply::Done)));
                }
            }
        }
    }

    fn done(&mut self, now: Now, task: &Task, by_hand: bool, done: Done) -> Option<Reply> {
        match done {
            Done::Looked => {
                self.judge_boot(now);
                None
            }
            Done::Checked { channel, decision } => {
                self.checked(now, task, channel, &decision, by_hand)
            }
            Done::Installed {
                channel,
                manifest,
                spent,
            } => Some(self.installed(now, task, by_hand, channel, *manifest, &spent)),
            Done::Changed(spent) => self.changed(now, task, &spent),
            Done::Examined { whole } => {
                self.examined(now, whole);
                None
            }
        }
    }

    /// A release is complete on the disk.
    fn installed(
        &mut self,
        now: Now,
        task: &Task,
        by_hand: bool,
        channel: Channel,
        manifest: Manifest,
        spent: &Spent,
    ) -> Reply {
        let found = format!("{} was installed", manifest.version);
        self.was_checked(now, &found, None);
        self.offers = Offers::Known(Box::new(channel));
        self.running.is_replaced();
        let version = manifest.version.clone();
        let running = self.version();
        for dropped in &spent.dropped {
            self.log(Notice::MirrorDropped(dropped.clone()));
        }
        if spent.has_changed {
            self.log(Notice::Installed {
                version: version.clone(),
                from: running.clone(),
                fetched: spent.fetched,
                reused: spent.reused,
            });
            let is_repair = matches!(task, Task::Repair(_));
            let (kind, reason) = match &self.record.damaged {
                Some(damaged) if is_repair => (
                    Kind::Repaired,
                    format!("its slot was damaged: {}", damaged.reason),
                ),
                None if is_repair => (Kind::Repaired, String::new()),
                Some(_) | None => (Kind::Installed, String::new()),
            };
            let bytes = (spent.fetched, spent.reused);
            let from = Some(running.clone());
            self.note(now, kind, from, version.clone(), &reason, bytes);
        }
        if self.record.damaged.as_ref().map(|it| it.root_hash) == Some(manifest.root_hash) {
            self.record.damaged = None;
        }
        // What was tried again on purpose starts afresh.
        let failed = &mut self.record.standing.failed;
        failed.retain(|failure| failure.version != version);
        let is_older = version < running;
        if is_older && let Some(left) = self.machine.root_hash {
            self.record.left.push(left);
        }
        let staged = self.record.staged.as_ref();
        let before = staged.filter(|staged| staged.root_hash == manifest.root_hash);
        // A check finds again what is there already.
        let since = before.map_or(now.clock, |staged| staged.since);
        let restart = match (task, before) {
            (_, Some(staged)) if !by_hand => staged.restart,
            (Task::Update { restart }, _) => *restart,
            (
                Task::Look
                | Task::Check
                | Task::Repair(_)
                | Task::Publish(_)
                | Task::Withdraw
                | Task::Bless
                | Task::RollBack { .. }
                | Task::Credit(_)
                | Task::Examine(_),
                _,
            ) => RestartWhen::Policy,
        };
        self.record.staged = Some(Staged {
            version: version.clone(),
            root_hash: manifest.root_hash,
            since,
            restart,
            manifest: spent.is_withheld.then(|| Box::new(manifest)),
        });
        self.restart.reconsider();
        let mut sentence = self.restart_sentence(now);
        if is_older {
            sentence += &format!(
                "; once it runs, the channel's newest is taken again: `wherry update pin \
                 {version}` keeps it"
            );
        }
        Reply::Applied(Applied {
            version,
            changed: spent.has_changed,
            fetched: spent.fetched,
            reused: spent.reused,
            restart: sentence,
        })
    }

    /// The disk was changed without a repository.
    fn changed(&mut self, now: Now, task: &Task, spent: &Spent) -> Option<Reply> {
        match task {
            Task::Bless => self.blessed(now),
            Task::Credit(_) => self.credited(now),
            Task::Publish(_) => {
                if let Some(staged) = &mut self.record.staged {
                    staged.manifest = None;
                }
                self.running.is_replaced();
            }
            Task::RollBack { restart } => return Some(self.rolled_back(now, *restart, spent)),
            Task::Look
            | Task::Check
            | Task::Update { .. }
            | Task::Repair(_)
            | Task::Withdraw
            | Task::Examine(_) => {}
        }
        None
    }

    fn credited(&mut self, now: Now) {
        let version = self.version();
        if let Some(hash) = self.machine.root_hash {
            *self.record.credits.entry(hash.to_string()).or_default() += 1;
        }
        self.log(Notice::Credited(version.clone()));
        let reason = "the boot before ended without its fault";
        self.note(now, Kind::Credited, None, version, reason, (0, 0));
    }

    fn rolled_back(&mut self, now: Now, restart: RestartWhen, spent: &Spent) -> Reply {
        self.running.is_replaced();
        let running = self.version();
        let next = self.disk.view().and_then(|view| {
            let entry = slots::loader_choice(&view.entries)?;
            Some((entry.version.clone(), entry.root_hash?))
        });
        let Some((version, root_hash)) = next else {
            let why = "the disk has no boot entry after the roll-back";
            return Reply::Refused(Refusal::Failed(why.to_owned()));
        };
        if let Some(left) = self.machine.root_hash {
            self.record.left.push(left);
        }
        // Otherwise the next check would bring it back.
        let reason = "rolled back by hand".to_owned();
        self.note_failure(now, running.clone(), reason, None);
        self.record.standing.wish = None;
        self.record.staged = Some(Staged {
            version: version.clone(),
            root_hash,
            since: now.clock,
            restart,
            manifest: None,
        });
        self.log(Notice::RolledBack {
            version: version.clone(),
            from: running.clone(),
        });
        let (kind, from) = (Kind::RolledBack, Some(running));
        self.note(now, kind, from, version.clone(), "by hand", (0, 0));
        self.restart.reconsider();
        Reply::Applied(Applied {
            version,
            changed: spent.has_changed,
            fetched: 0,
            reused: 0,
            restart: self.restart_sentence(now),
        })
    }

    /// A blessed release's slot was read after the release had given way.
    fn examined(&mut self, now: Now, whole: bool) {
        let Some(damaged) = self.record.damaged.clone() else {
            return;
        };
        if whole {
            self.record.damaged = None;
            self.note_failure(now, damaged.version, damaged.reason, None);
            return;
        }
        self.log(Notice::SlotDamaged(damaged.version));
        self.next_check = now.boot;
    }

    fn failed(&mut self, now: Now, task: &Task, by_hand: bool, failed: Failed) -> Reply {
        let Failed {
            reason,
            is_declined,
            installing,
        } = failed;
        match task {
            Task::Check | Task::Update { .. } | Task::Repair(_) => {
                if by_hand {
                    self.record.standing.wish = None;
                }
                self.check_failed(now, task, installing, &reason);
            }
            Task::Publish(_) => {
                self.log(Notice::PublishFailed(reason.clone()));
                self.restart_failed(now, reason.clone());
            }
            Task::Bless => self.bless_failed(now, reason.clone()),
            Task::Look => {
                self.log(Notice::DiskFailed(reason.clone()));
                self.judge_boot(now);
            }
            Task::Credit(_) | Task::Examine(_) | Task::Withdraw => {
                self.log(Notice::DiskFailed(reason.clone()));
            }
            Task::RollBack { .. } => self.log(Notice::RollBackFailed(reason.clone())),
        }
        Reply::Refused(if is_declined {
            Refusal::Declined(reason)
        } else {
            Refusal::Failed(reason)
        })
    }
}

/// A time as people read it: more than the second says nothing.
pub fn seconds(time: Timestamp) -> String {
    use jiff::{TimestampRound, Unit};
    time.round(TimestampRound::new().smallest(Unit::Second))
        .unwrap_or(time)
        .to_string()
}
