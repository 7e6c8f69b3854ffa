//! What this boot is: after a fall-back, on trial, or an ordinary one; and what
//! becomes of a release on trial.

use std::fs;

use control::Request;
use jiff::{SignedDuration, Timestamp};
use policy::Failure;
use slots::View;
use updater_control::RecordKind;

use super::{Daemon, Purpose, RETRY_ON_TRIAL, now};
use crate::boot_evidence::{self, BootSeen, Candidate, Ended, Evidence, FellBack};
use crate::health::{Trial, Verdict};
use crate::record::{Damaged, Event, Kind, Staged};
use crate::say::{self, Level};
use crate::worker::Order;
use crate::{pid1, pstore};

/// A release that lacked nothing but the server may be tried again then.
const TRY_AGAIN: SignedDuration = SignedDuration::from_hours(24);

impl Daemon {
    /// Once in the daemon's life, when the disk was looked at for the first time.
    pub(super) fn judge_boot(&mut self) {
        if self.judged {
            return;
        }
        self.judged = true;
        let evidence = self.evidence();
        let findings = boot_evidence::conclude(&evidence);
        if let Some(words) = &evidence.panic {
            say::event(
                Level::Warning,
                "panic",
                &[],
                &format!("the kernel panicked before this boot: {words}"),
            );
        }
        let is_restart = evidence
            .seen
            .as_ref()
            .is_some_and(|seen| seen.boot_id == evidence.boot_id);
        if let Some(fell_back) = findings.fell_back {
            self.note_fall_back(fell_back);
        }
        if let Some(tries) = findings.credit {
            self.queue
                .push_back((Purpose::Credit, Order::Credit(tries)));
        }
        if !is_restart {
            self.settle_what_was_staged();
            self.keeper.record.boot = Some(BootSeen {
                boot_id: self.machine.boot_id.clone(),
                version: self.machine.version.clone(),
                root_hash: self.machine.root_hash,
                ended: Ended::Unknown,
            });
        }
        self.on_trial = findings.on_trial;
        self.begin_trial();
        // Kept so far for the case that the record could not be written.
        let _ = fs::remove_file(self.arguments.state.join("trial-expired"));
    }

    fn evidence(&self) -> Evidence {
        let record = &self.keeper.record;
        let view = self.view.as_ref();
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
        let expired = fs::read_to_string(self.arguments.state.join("trial-expired"));
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
            panic: pstore::take_last_words(&self.arguments.pstore),
            watchdog_reset: self.machine.watchdog_reset,
            trial_expired: expired.ok().map(|text| text.trim().to_owned()),
        }
    }

    fn note_fall_back(&mut self, fell_back: FellBack) {
        let FellBack {
            version,
            root_hash,
            reason,
            was_blessed,
            only_server,
        } = fell_back;
        say::event(
            Level::Error,
            "fell-back",
            &[
                ("version", &version),
                ("running", &self.machine.version),
                ("reason", &reason),
            ],
            &format!("{version} gave way to {}: {reason}", self.machine.version),
        );
        let from = self.machine.version.clone();
        self.note(Kind::FellBack, Some(from), version.clone(), &reason, (0, 0));
        if was_blessed {
            // It had worked: perhaps its slot has gone bad.
            self.keeper.record.damaged = Some(Damaged {
                version,
                root_hash,
                reason,
            });
            let order = Order::Examine(root_hash);
            self.queue.push_back((Purpose::Examine, order));
        } else {
            let again = only_server
                .then(|| Timestamp::now().checked_add(TRY_AGAIN).ok())
                .flatten();
            self.note_failure(version, reason, again);
        }
    }

    /// Remembers that a release is not to be taken by itself any more.
    pub(super) fn note_failure(
        &mut self,
        version: release::Version,
        reason: String,
        again: Option<Timestamp>,
    ) {
        let failed = &mut self.keeper.record.standing.failed;
        // One that is tried again and fails again is not tried for ever.
        let is_second = failed.iter().any(|failure| failure.version == version);
        failed.retain(|failure| failure.version != version);
        failed.push(Failure {
            version,
            reason,
            at: Timestamp::now(),
            again: again.filter(|_| !is_second),
        });
    }

    /// The first look after a restart: what was to boot runs, or does not.
    fn settle_what_was_staged(&mut self) {
        let record = &mut self.keeper.record;
        let running = self.machine.root_hash;
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
            let chosen = self.view.as_ref().and_then(|view| {
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
        if let Some(view) = &self.view {
            let known = |hash: &release::RootHash| view.slot_of(hash).is_some();
            record.left.retain(known);
        }
    }

    fn begin_trial(&mut self) {
        let config = &self.settings.config;
        let now = now();
        let mut trial = Trial::new(config.health_time, config.health_limit, now);
        let is_server = |address: &String| address.starts_with("http");
        if !config.repositories.iter().any(is_server) {
            // A folder tells nothing of the network, and a stick may be gone.
            trial.reached(None);
        }
        if self.on_trial {
            let until = trial.limit() + std::time::Duration::from_secs(120);
            let until_us = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
            let path = self.arguments.pid1.clone();
            tokio::spawn(async move {
                // PID 1's own limit stays where it cannot be moved.
                let _ = pid1::ask(&path, &Request::ExtendTrial { until_us }).await;
            });
            say::event(
                Level::Notice,
                "trial",
                &[("version", &self.machine.version)],
                &format!(
                    "{} is on trial until {} s after the start",
                    self.machine.version,
                    trial.limit().as_secs()
                ),
            );
        } else {
            // What has proven itself needs no server to stay.
            trial.reached(None);
            self.settle_lock();
        }
        for service in self.services.values() {
            trial.observe(service, now);
        }
        self.trial = Some(trial);
    }

    /// What is known of the release that runs by now.
    pub(super) fn judge_trial(&mut self) {
        let Some(trial) = &self.trial else {
            return;
        };
        if self.rebooting || !self.queue.is_empty() {
            return;
        }
        match trial.verdict(now()) {
            Verdict::Waiting { .. } => {}
            Verdict::Healthy => {
                // Its count would be given back to a release that is to give way.
                let has_entry = self
                    .view
                    .as_ref()
                    .is_some_and(|view| view.booted_entry().is_some());
                if !self.on_trial && (self.switched || !has_entry) {
                    self.trial = None;
                } else if self.job.is_none() {
                    self.begin(Purpose::Bless, Order::Bless, None);
                }
            }
            Verdict::Ill(reason) if self.on_trial => {
                let only_server = trial.lacks_only_server(now());
                self.give_up(reason, only_server);
            }
            // What has proven itself stays: there is nothing better.
            Verdict::Ill(_) => {}
        }
    }

    /// The moment at which the judgement may change.
    pub(super) fn trial_moment(&self, now: std::time::Duration) -> Option<std::time::Duration> {
        match self.trial.as_ref()?.verdict(now) {
            Verdict::Waiting { until } => Some(until),
            Verdict::Healthy | Verdict::Ill(_) => None,
        }
    }

    /// The release on trial has not proven itself: the loader takes it again
    /// while it has tries, and then the one before.
    fn give_up(&mut self, reason: String, only_server: bool) {
        let version = self.machine.version.clone();
        say::event(
            Level::Error,
            "unhealthy",
            &[("version", &version), ("reason", &reason)],
            &format!("{version} has not proven itself: {reason}; the machine restarts"),
        );
        if let Some(boot) = &mut self.keeper.record.boot {
            boot.ended = Ended::Unhealthy {
                reason: reason.clone(),
                only_server,
            };
        }
        self.trial = None;
        self.save();
        self.want_reboot_by_force();
    }

    /// The disk says that what runs is blessed.
    pub(super) fn blessed(&mut self) {
        let was_on_trial = std::mem::take(&mut self.on_trial);
        self.trial = None;
        self.confirm_boot();
        if !was_on_trial {
            return;
        }
        let version = self.machine.version.clone();
        say::event(
            Level::Notice,
            "blessed",
            &[("version", &version)],
            &format!("{version} has proven itself"),
        );
        self.note(Kind::Blessed, None, version, "", (0, 0));
        if let Some(hash) = self.machine.root_hash {
            self.keeper.record.credits.remove(&hash.to_string());
        }
        self.settle_lock();
        self.next_check = self.next_check.min(now() + RETRY_ON_TRIAL);
    }

    /// Tells PID 1 that what runs works.
    fn confirm_boot(&self) {
        let path = self.arguments.pid1.clone();
        tokio::spawn(async move {
            if let Err(error) = pid1::ask(&path, &Request::ConfirmBoot).await {
                say::event(Level::Error, "confirm-boot", &[], &error);
            }
        });
    }

    /// Adds to the history.
    pub(super) fn note(
        &mut self,
        kind: Kind,
        from: Option<release::Version>,
        to: release::Version,
        reason: &str,
        (fetched, reused): (u64, u64),
    ) {
        self.keeper.record.note(Event {
            time: Timestamp::now(),
            kind,
            from,
            to,
            reason: reason.to_owned(),
            fetched,
            reused,
        });
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

/// A kind of the record, as the protocol has it.
pub(super) fn kind(kind: Kind) -> RecordKind {
    match kind {
        Kind::Installed => RecordKind::Installed,
        Kind::InstallFailed => RecordKind::InstallFailed,
        Kind::Blessed => RecordKind::Blessed,
        Kind::FellBack => RecordKind::FellBack,
        Kind::RolledBack => RecordKind::RolledBack,
        Kind::Mended => RecordKind::Mended,
        Kind::Credited => RecordKind::Credited,
    }
}
