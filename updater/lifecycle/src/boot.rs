//! What this boot is: once in the life of the process, when the disk has been seen.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use policy::{Event as LockEvent, Failure};
use release::Version;
use slots::View;

use crate::action::{Action, Notice};
use crate::boot_evidence::{self, BootSeen, Candidate, Ended, Evidence, FellBack};
use crate::event::Now;
use crate::health::Trial;
use crate::lifecycle::Lifecycle;
use crate::record::{Damaged, Kind, Staged};
use crate::running::{Confirmation, Guard, Running};
use crate::work::Task;

/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// PID 1's own limit comes so long after that of the trial.
const PID1_LATER: Duration = Duration::from_secs(120);
/// A release that lacked nothing but the server may be tried again then.
const TRY_AGAIN: SignedDuration = SignedDuration::from_hours(24);

impl Lifecycle {
    pub(crate) fn look_when_due(&mut self, now: Now) {
        if let Running::Unknown { looks, again } = &mut self.running
            && *again <= now.boot
            && self.work.is_idle()
        {
            *looks = looks.saturating_sub(1);
            self.begin(Task::Look, None);
        }
    }

    /// Once in the life of the process, when the disk has been looked at.
    pub(crate) fn judge_boot(&mut self, now: Now) {
        let Running::Unknown { looks, again } = &mut self.running else {
            return;
        };
        // A disk that is slow to come must not hide a fall-back or a trial.
        let has_disk = self.machine.root_hash.is_some();
        if has_disk && self.disk.view().is_none() && *looks > 0 {
            *again = now.boot + LOOK_AGAIN;
            return;
        }
        let evidence = self.evidence();
        let findings = boot_evidence::conclude(&evidence);
        if let Some(words) = evidence.panic {
            self.log(Notice::Panicked(words));
        }
        let earlier = evidence
            .seen
            .filter(|seen| seen.boot_id == evidence.boot_id);
        if let Some(fell_back) = findings.fell_back {
            self.note_fall_back(now, fell_back);
        }
        if let Some(tries) = findings.credit {
            self.work.add(Task::Credit(tries));
        }
        let mut was_given_up = false;
        match earlier.map(|seen| seen.ended) {
            // This process has been restarted within the boot.
            Some(Ended::Unhealthy { .. }) => was_given_up = true,
            // The end did not come about.
            Some(Ended::Asked) => self.boot_goes_on(),
            Some(Ended::Unknown) => {}
            None => {
                self.settle_what_was_staged();
                self.record.boot = Some(BootSeen {
                    boot_id: self.machine.boot_id.clone(),
                    version: self.version(),
                    root_hash: self.machine.root_hash,
                    ended: Ended::Unknown,
                });
            }
        }
        self.begin_trial(now, findings.on_trial, was_given_up);
        self.act(Action::ForgetTraces);
    }

    fn evidence(&self) -> Evidence {
        let record = &self.record;
        let view = self.disk.view();
        let running = view.and_then(|view| {
            let entry = view.booted_entry()?;
            Some(Candidate {
                version: entry.version.clone(),
                root_hash: view.booted?,
                tries: entry.tries,
            })
        });
        let credits = self
            .machine
            .root_hash
            .and_then(|hash| record.credits.get(&hash.to_string()).copied())
            .unwrap_or(0);
        Evidence {
            boot_id: self.machine.boot_id.clone(),
            running,
            others: view.map(others).unwrap_or_default(),
            seen: record.boot.clone(),
            staged: record
                .staged
                .as_ref()
                .filter(|staged| staged.manifest.is_none())
                .map(|staged| (staged.version.clone(), staged.root_hash)),
            left: record.left.clone(),
            failed: record
                .standing
                .failed
                .iter()
                .map(|failure| failure.version.clone())
                .collect(),
            credits,
            panic: self.traces.panic.clone(),
            watchdog_reset: self.traces.watchdog_reset,
            trial_expired: self.traces.trial_expired.clone(),
        }
    }

    fn note_fall_back(&mut self, now: Now, fell_back: FellBack) {
        let FellBack {
            version,
            root_hash,
            reason,
            was_blessed,
            only_server,
        } = fell_back;
        let running = self.version();
        self.log(Notice::FellBack {
            version: version.clone(),
            running: running.clone(),
            reason: reason.clone(),
        });
        let from = Some(running);
        self.note(now, Kind::FellBack, from, version.clone(), &reason, (0, 0));
        if was_blessed {
            // It had worked: perhaps its slot has gone bad.
            self.record.damaged = Some(Damaged {
                version,
                root_hash,
                reason,
            });
            self.work.add(Task::Examine(root_hash));
        } else {
            let again = only_server
                .then(|| now.clock.checked_add(TRY_AGAIN).ok())
                .flatten();
            self.note_failure(now, version, reason, again);
        }
    }

    /// Remembers that a release is not to be taken again by itself.
    pub(crate) fn note_failure(
        &mut self,
        now: Now,
        version: Version,
        reason: String,
        again: Option<Timestamp>,
    ) {
        let failed = &mut self.record.standing.failed;
        // One that is tried again and fails again is not tried for ever.
        let is_second = failed.iter().any(|failure| failure.version == version);
        failed.retain(|failure| failure.version != version);
        failed.push(Failure {
            version,
            reason,
            at: now.clock,
            again: again.filter(|_| !is_second),
        });
    }

    /// The first look after a restart: what was to boot runs, or does not.
    fn settle_what_was_staged(&mut self) {
        let record = &mut self.record;
        let running = self.machine.root_hash;
        let view = self.disk.view();
        let is_published = |staged: &Staged| staged.manifest.is_none();
        let runs = record
            .staged
            .as_ref()
            .is_some_and(|staged| Some(staged.root_hash) == running);
        if runs {
            record.staged = None;
            record.damaged = None;
        } else if record.staged.as_ref().is_some_and(is_published) {
            // It gave way, or the loader was told to take another one: where it
            // still has tries, the next restart takes it.
            let chosen = view.and_then(|view| {
                slots::loader_choice(&view.entries).and_then(|entry| entry.root_hash)
            });
            if record.staged.as_ref().map(|staged| staged.root_hash) != chosen {
                record.staged = None;
            }
        }
        if let Some(wish) = &record.standing.wish {
            let is_met = wish
                .version
                .as_ref()
                .is_none_or(|version| *version == self.machine.version);
            let has_failed = wish.version.as_ref().is_some_and(|version| {
                record
                    .standing
                    .failed
                    .iter()
                    .any(|failure| failure.version == *version)
            });
            if (is_met || has_failed) && record.staged.is_none() {
                record.standing.wish = None;
            }
        }
        // A release that runs again was not left for good.
        record.left.retain(|left| Some(*left) != running);
        if let Some(view) = view {
            record.left.retain(|left| view.slot_of(left).is_some());
        }
    }

    fn begin_trial(&mut self, now: Now, on_trial: bool, was_given_up: bool) {
        let config = &self.config;
        let mut trial = Trial::new(config.health_time, config.health_limit, now.boot);
        let is_server = |address: &String| address.starts_with("http");
        if !config.repositories.iter().any(is_server) {
            // A folder says nothing about the network, and a stick may be gone.
            trial.reached(None);
        }
        for (name, condition) in &self.services {
            trial.observe(name, condition, now.boot);
        }
        if was_given_up {
            self.running = Running::GivenUp;
        } else if on_trial && !self.is_published() {
            let limit = trial.limit();
            self.running = Running::OnTrial(trial);
            self.act(Action::ExtendTrial(limit + PID1_LATER));
            let version = self.version();
            self.log(Notice::OnTrial { version, limit });
        } else {
            // What has proven itself needs no server to stay; nor is what somebody
            // left in this boot judged again.
            trial.reached(None);
            self.running = Running::Proven(if self.is_published() {
                Guard::Settled
            } else {
                Guard::Due(trial)
            });
            if self.has_entry() {
                // PID 1 may not have heard of the blessing.
                self.confirmation = Confirmation::Due(now.boot);
            }
            self.step_lock(now, LockEvent::Settled);
        }
    }

    /// Whether the boot loader knows of another release that is to boot next.
    fn is_published(&self) -> bool {
        let staged = self.record.staged.as_ref();
        staged.is_some_and(|staged| {
            staged.manifest.is_none() && Some(staged.root_hash) != self.machine.root_hash
        })
    }

    /// From now on an end of this boot is no fault of what runs.
    pub(crate) fn boot_ends_as_asked(&mut self) {
        if let Some(boot) = &mut self.record.boot
            && boot.ended == Ended::Unknown
        {
            boot.ended = Ended::Asked;
        }
    }

    /// The end that was asked for does not come.
    pub(crate) fn boot_goes_on(&mut self) {
        if let Some(boot) = &mut self.record.boot
            && boot.ended == Ended::Asked
        {
            boot.ended = Ended::Unknown;
        }
    }
}

/// The releases that have an entry and a slot and do not run.
fn others(view: &View) -> Vec<Candidate> {
    view.others()
        .filter_map(|(entry, _)| {
            Some(Candidate {
                version: entry.version.clone(),
                root_hash: entry.root_hash?,
                tries: entry.tries,
            })
        })
        .collect()
}
