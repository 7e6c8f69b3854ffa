//! The release that runs: what this boot is, and what becomes of a trial.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use policy::{Event as LockEvent, Failure};
use release::Version;
use slots::View;

use crate::action::{Action, Notice};
use crate::boot_evidence::{self, BootSeen, Candidate, Ended, Evidence, FellBack};
use crate::event::Now;
use crate::health::{Condition, Trial, Verdict};
use crate::lifecycle::Lifecycle;
use crate::record::{Damaged, HistoryEntry, Kind, Staged};
use crate::work::{Task, Work};

/// How often a disk that cannot be read is looked at before the boot is judged
/// without it.
const LOOKS: u32 = 4;
/// Between two looks.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// After the disk did not take a blessing.
const RETRY_BLESS: Duration = Duration::from_secs(60);
/// After PID 1 could not be told that what runs works.
const RETRY_CONFIRM: Duration = Duration::from_secs(10);
/// After a blessing the next check comes soon.
const CHECK_AFTER_BLESSING: Duration = Duration::from_secs(15);
/// PID 1's own limit comes so long after that of the trial.
const PID1_LATER: Duration = Duration::from_secs(120);
/// A release that lacked nothing but the server may be tried again then.
const TRY_AGAIN: SignedDuration = SignedDuration::from_hours(24);

/// What is known of the running release.
#[derive(Clone, Debug)]
pub(crate) enum Running {
    /// Nothing: the disk has not been seen yet.
    Unknown {
        /// How often it is looked at still.
        looks: u32,
        /// When.
        again: Duration,
    },
    /// It has yet to prove itself.
    OnTrial(Trial),
    /// It has; the disk is being told.
    Blessing(Trial),
    /// It had yet to prove itself when the operator rolled back from it: it is not
    /// blessed, and restarted only if it is ill.
    Leaving(Trial),
    /// It has not proven itself: the machine restarts, whatever windows say.
    GivenUp,
    /// It has proven itself, or there is nothing to fall back to.
    Proven(Guard),
}

/// What becomes of the count that a proven release has as a guard.
#[derive(Clone, Debug)]
pub(crate) enum Guard {
    /// It is renewed when the release is healthy in this boot too.
    Due(Trial),
    /// It is being renewed.
    Renewing(Trial),
    /// Nothing is left to do: it was renewed, there is no entry that could have
    /// one, or another release boots next.
    Settled,
}

/// Whether PID 1 knows that what runs works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Confirmation {
    /// There is nothing to tell, or it knows.
    NotDue,
    /// It is told then.
    Due(Duration),
    /// It is being told.
    Asked,
}

impl Confirmation {
    pub(crate) fn moment(self) -> Option<Duration> {
        match self {
            Self::Due(at) => Some(at),
            Self::NotDue | Self::Asked => None,
        }
    }
}

impl Running {
    pub(crate) fn unknown(now: Now) -> Self {
        Self::Unknown {
            looks: LOOKS,
            again: now.boot,
        }
    }

    /// Whether the boot has been judged.
    pub(crate) fn is_known(&self) -> bool {
        match self {
            Self::Unknown { .. } => false,
            Self::OnTrial(_)
            | Self::Blessing(_)
            | Self::Leaving(_)
            | Self::GivenUp
            | Self::Proven(_) => true,
        }
    }

    /// Whether the release has not proven itself yet.
    pub(crate) fn is_on_trial(&self) -> bool {
        match self {
            Self::OnTrial(_) | Self::Blessing(_) | Self::Leaving(_) | Self::GivenUp => true,
            Self::Unknown { .. } | Self::Proven(_) => false,
        }
    }

    pub(crate) fn is_given_up(&self) -> bool {
        matches!(self, Self::GivenUp)
    }

    /// The judgement of a release that is on trial.
    pub(crate) fn trial(&self) -> Option<&Trial> {
        match self {
            Self::OnTrial(trial) | Self::Blessing(trial) | Self::Leaving(trial) => Some(trial),
            Self::Unknown { .. } | Self::GivenUp | Self::Proven(_) => None,
        }
    }

    /// The judgement under way, of a trial or for a guard.
    fn judgement(&self) -> Option<&Trial> {
        match self {
            Self::OnTrial(trial)
            | Self::Blessing(trial)
            | Self::Leaving(trial)
            | Self::Proven(Guard::Due(trial) | Guard::Renewing(trial)) => Some(trial),
            Self::Unknown { .. } | Self::GivenUp | Self::Proven(Guard::Settled) => None,
        }
    }

    pub(crate) fn judgement_mut(&mut self) -> Option<&mut Trial> {
        match self {
            Self::OnTrial(trial)
            | Self::Blessing(trial)
            | Self::Leaving(trial)
            | Self::Proven(Guard::Due(trial) | Guard::Renewing(trial)) => Some(trial),
            Self::Unknown { .. } | Self::GivenUp | Self::Proven(Guard::Settled) => None,
        }
    }

    /// When there is something to do.
    pub(crate) fn moment(&self, now: Duration, work: &Work) -> Option<Duration> {
        if let Self::Unknown { again, .. } = self {
            return work.is_idle().then_some(*again);
        }
        match self.judgement()?.verdict(now) {
            Verdict::Waiting { until } => Some(until),
            Verdict::Healthy | Verdict::Ill(_) => None,
        }
    }

    /// Something else boots next than what runs.
    pub(crate) fn is_replaced(&mut self) {
        let before = std::mem::replace(self, Self::GivenUp);
        *self = match before {
            // Its count would be given back to a release that is to give way.
            Self::OnTrial(trial) | Self::Blessing(trial) | Self::Leaving(trial) => {
                Self::Leaving(trial)
            }
            Self::Proven(_) => Self::Proven(Guard::Settled),
            known @ (Self::Unknown { .. } | Self::GivenUp) => known,
        };
    }
}

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

    /// PID 1 reports a service.
    pub(crate) fn observe(&mut self, now: Now, name: String, condition: Condition) {
        if let Some(trial) = self.running.judgement_mut() {
            trial.observe(&name, &condition, now.boot);
        }
        self.services.insert(name, condition);
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

    fn has_entry(&self) -> bool {
        self.disk
            .view()
            .is_some_and(|view| view.booted_entry().is_some())
    }

    /// What is known of the running release by now.
    pub(crate) fn judge(&mut self, now: Now) {
        if self.restart.is_under_way() {
            return;
        }
        let Some(trial) = self.running.judgement() else {
            return;
        };
        let verdict = trial.verdict(now.boot);
        let only_server = trial.lacks_only_server(now.boot);
        match (verdict, &self.running) {
            (Verdict::Waiting { .. }, _) => {}
            (Verdict::Healthy, Running::OnTrial(trial)) if self.work.is_idle() => {
                self.running = Running::Blessing(trial.clone());
                self.begin(Task::Bless, None);
            }
            (Verdict::Healthy, Running::Leaving(_)) => {
                self.running = Running::Proven(Guard::Settled);
                self.confirmation = Confirmation::Due(now.boot);
                self.step_lock(now, LockEvent::Settled);
            }
            (Verdict::Healthy, Running::Proven(Guard::Due(_))) if !self.has_entry() => {
                self.running = Running::Proven(Guard::Settled);
            }
            (Verdict::Healthy, Running::Proven(Guard::Due(trial))) if self.work.is_idle() => {
                self.running = Running::Proven(Guard::Renewing(trial.clone()));
                self.begin(Task::Bless, None);
            }
            // After the work that is under way.
            (Verdict::Healthy, Running::OnTrial(_) | Running::Proven(Guard::Due(_))) => {}
            (Verdict::Ill(reason), Running::OnTrial(_) | Running::Leaving(_)) => {
                self.give_up(reason, only_server);
            }
            // What has proven itself stays: there is nothing better. What is being
            // blessed had proven itself before.
            (Verdict::Ill(_) | Verdict::Healthy, Running::Blessing(_) | Running::Proven(_)) => {}
            (Verdict::Ill(_) | Verdict::Healthy, Running::Unknown { .. } | Running::GivenUp) => {}
        }
    }

    /// The release on trial has not proven itself: the loader takes it again
    /// while it has tries, and then the one before.
    fn give_up(&mut self, reason: String, only_server: bool) {
        let version = self.version();
        self.log(Notice::Unhealthy {
            version,
            reason: reason.clone(),
        });
        if let Some(boot) = &mut self.record.boot {
            boot.ended = Ended::Unhealthy {
                reason,
                only_server,
            };
        }
        self.running = Running::GivenUp;
    }

    /// The disk says that what runs is blessed.
    pub(crate) fn blessed(&mut self, now: Now) {
        match &self.running {
            Running::Blessing(_) => {}
            Running::Proven(Guard::Renewing(_)) => {
                self.running = Running::Proven(Guard::Settled);
                return;
            }
            // The task is begun in these two states only, and nothing but its end
            // leaves them.
            Running::Unknown { .. }
            | Running::OnTrial(_)
            | Running::Leaving(_)
            | Running::GivenUp
            | Running::Proven(Guard::Due(_) | Guard::Settled) => return,
        }
        self.running = Running::Proven(Guard::Settled);
        self.confirmation = Confirmation::Due(now.boot);
        let version = self.version();
        self.log(Notice::Blessed(version.clone()));
        self.note(now, Kind::Blessed, None, version, "", (0, 0));
        if let Some(hash) = self.machine.root_hash {
            self.record.credits.remove(&hash.to_string());
        }
        self.step_lock(now, LockEvent::Settled);
        self.next_check = self.next_check.min(now.boot + CHECK_AFTER_BLESSING);
    }

    /// The disk did not take the blessing: the next boot is counted again, and
    /// there is time to try once more.
    pub(crate) fn bless_failed(&mut self, now: Now, reason: String) {
        self.log(Notice::BlessFailed(reason));
        if let Some(trial) = self.running.judgement_mut() {
            trial.put_off(now.boot + RETRY_BLESS);
        }
        let before = std::mem::replace(&mut self.running, Running::GivenUp);
        self.running = match before {
            Running::Blessing(trial) => Running::OnTrial(trial),
            Running::Proven(Guard::Renewing(trial)) => Running::Proven(Guard::Due(trial)),
            other @ (Running::Unknown { .. }
            | Running::OnTrial(_)
            | Running::Leaving(_)
            | Running::GivenUp
            | Running::Proven(Guard::Due(_) | Guard::Settled)) => other,
        };
    }

    pub(crate) fn confirm_when_due(&mut self, now: Now) {
        if let Confirmation::Due(at) = self.confirmation
            && at <= now.boot
        {
            self.confirmation = Confirmation::Asked;
            self.act(Action::ConfirmBoot);
        }
    }

    pub(crate) fn boot_confirmed(&mut self, now: Now, result: Result<(), String>) {
        self.confirmation = match result {
            Ok(()) => Confirmation::NotDue,
            Err(why) => {
                self.log(Notice::ConfirmFailed(why));
                Confirmation::Due(now.boot + RETRY_CONFIRM)
            }
        };
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

    /// Adds to the history.
    pub(crate) fn note(
        &mut self,
        now: Now,
        kind: Kind,
        from: Option<Version>,
        to: Version,
        reason: &str,
        (fetched, reused): (u64, u64),
    ) {
        self.record.note(HistoryEntry {
            time: now.clock,
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
