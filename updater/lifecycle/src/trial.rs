//! What becomes of a release on trial, or of a guard: whether it is healthy, and
//! who is told.

use std::time::Duration;

use policy::Event as LockEvent;

use crate::action::{Action, Notice};
use crate::boot_evidence::Ended;
use crate::event::Now;
use crate::health::{Condition, Verdict};
use crate::lifecycle::Lifecycle;
use crate::record::Kind;
use crate::running::{Confirmation, Guard, Running};
use crate::work::Task;

/// After the disk did not take a blessing.
const RETRY_BLESS: Duration = Duration::from_secs(60);
/// After PID 1 could not be told that what runs works.
const RETRY_CONFIRM: Duration = Duration::from_secs(10);
/// After a blessing the next check comes soon.
const CHECK_AFTER_BLESSING: Duration = Duration::from_secs(15);

impl Lifecycle {
    /// PID 1 reports a service.
    pub(crate) fn observe(&mut self, now: Now, name: String, condition: Condition) {
        if let Some(trial) = self.running.judgement_mut() {
            trial.observe(&name, &condition, now.boot);
        }
        self.services.insert(name, condition);
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

    pub(crate) fn has_entry(&self) -> bool {
        self.disk
            .view()
            .is_some_and(|view| view.booted_entry().is_some())
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
}
