//! When the machine restarts: the policy allows it, with the FleetLock
//! server's consent, after the release was made known to the boot loader.

use std::time::Duration;

use policy::{Action as LockAction, Event as LockEvent, Pending, Reboot, Wish, may_reboot};

use crate::action::{Action, Notice};
use crate::event::{Now, RestartWhen};
use crate::lifecycle::Lifecycle;
use crate::offers::Offers;
use crate::restart::Restart;
use crate::work::Task;

/// After a restart that did not come about.
const RETRY: Duration = Duration::from_secs(60);
/// What software on the machine or the operator changes is seen by looking again
/// this often.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// What is to become of the restart.
enum Verdict {
    NotWanted,
    Wait(Restart),
    /// First it is asked whether what is staged is still offered.
    LookFirst,
    /// What is staged is not booted, and why.
    Withdraw(String),
    Restart {
        force: bool,
    },
}

impl Lifecycle {
    /// Brings the restart as far as it may come now.
    pub(crate) fn consider_restart(&mut self, now: Now) {
        if !self.running.is_known() {
            return;
        }
        match &self.restart {
            Restart::Granted if self.work.is_idle() => {}
            Restart::Granted | Restart::Asking | Restart::Accepted => return,
            Restart::Waiting {
                again: Some(again), ..
            } if now.boot < *again && self.work.is_idle() => return,
            Restart::NotWanted | Restart::Waiting { .. } | Restart::Locking => {}
        }
        match self.verdict(now) {
            Verdict::NotWanted => self.take_back(now, Restart::NotWanted),
            Verdict::Wait(waiting) => self.take_back(now, waiting),
            Verdict::LookFirst => {
                self.next_check = now.boot;
                let waiting = Restart::waiting("a look whether it is still offered");
                self.take_back(now, waiting);
            }
            Verdict::Withdraw(why) => {
                self.withdraw(why);
                self.take_back(now, Restart::NotWanted);
            }
            Verdict::Restart { force } => self.want_restart(now, force),
        }
    }

    fn verdict(&self, now: Now) -> Verdict {
        if self.running.is_given_up() {
            return Verdict::Restart { force: true };
        }
        let Some(staged) = &self.record.staged else {
            return Verdict::NotWanted;
        };
        if staged.restart == RestartWhen::Never {
            return Verdict::Wait(Restart::waiting("whoever installed it"));
        }
        if !self.work.is_idle() {
            return Verdict::Wait(Restart::waiting("the end of what is under way"));
        }
        if staged.manifest.is_some() {
            if let Some(why) = self.offers.withdrawn(&staged.version) {
                return Verdict::Withdraw(why);
            }
            // It may have been halted since. Where nobody answers, it boots: it was
            // signed, and a machine may be off the network for long.
            if matches!(self.offers, Offers::Unasked) && !self.config.repositories.is_empty() {
                return Verdict::LookFirst;
            }
        }
        let is_now = staged.restart == RestartWhen::Now;
        let mut standing = self.record.standing.clone();
        if is_now {
            standing.wish = Some(Wish {
                now: true,
                ..standing.wish.unwrap_or_default()
            });
        }
        let pending = Pending {
            version: &staged.version,
            since: staged.since,
        };
        let machine = &self.machine.id;
        match may_reboot(
            &self.config,
            &standing,
            machine,
            pending,
            &self.locks,
            now.clock,
        ) {
            Reboot::Yes => Verdict::Restart { force: is_now },
            Reboot::No { until, why } => Verdict::Wait(Restart::Waiting {
                reason: match until {
                    Some(until) => format!("{why}, until {}", crate::seconds(until)),
                    None => why.to_string(),
                },
                // In time since the kernel's start: a clock that is put back does
                // not put the restart off.
                again: until.map(|until| {
                    let wait = Duration::try_from(until.duration_since(now.clock));
                    now.boot + wait.unwrap_or_default().min(LOOK_AGAIN)
                }),
            }),
        }
    }

    /// All but FleetLock and the boot loader is ready.
    fn want_restart(&mut self, now: Now, force: bool) {
        if self.restart != Restart::Granted {
            self.restart = Restart::Locking;
            let client = self
                .config
                .fleet_lock
                .as_ref()
                .map(|server| server.client(&self.machine.id));
            self.step_lock(now, LockEvent::Wanted { client, force });
        }
        if self.restart == Restart::Granted && self.work.is_idle() {
            self.prepare_restart();
        }
    }

    /// The boot loader learns of what is staged, then PID 1 is asked.
    fn prepare_restart(&mut self) {
        let staged = self.record.staged.as_ref();
        let unpublished = staged.and_then(|staged| staged.manifest.clone());
        if let Some(manifest) = unpublished.filter(|_| !self.running.is_given_up()) {
            return self.begin(Task::Publish(manifest), None);
        }
        let into = staged.map(|staged| staged.version.clone());
        self.boot_ends_as_asked();
        self.restart = Restart::Asking;
        self.log(Notice::Restarting { into });
        self.act(Action::Restart);
    }

    /// Nothing is restarted for now; a FleetLock server that is being asked hears
    /// of it, or it would grant a restart that does not come.
    fn take_back(&mut self, now: Now, to: Restart) {
        self.restart = to;
        self.step_lock(now, LockEvent::Unwanted);
    }

    /// The restart that was decided did not come about.
    pub(crate) fn restart_failed(&mut self, now: Now, reason: String) {
        let again = Some(now.boot + RETRY);
        self.take_back(now, Restart::Waiting { reason, again });
    }

    pub(crate) fn restart_answered(&mut self, now: Now, result: Result<(), String>) {
        if self.restart != Restart::Asking {
            return;
        }
        match result {
            Ok(()) => self.restart = Restart::Accepted,
            Err(why) => {
                self.log(Notice::RestartFailed(why.clone()));
                self.boot_goes_on();
                self.restart_failed(now, why);
            }
        }
    }

    /// Takes away what is staged and not wanted any more.
    fn withdraw(&mut self, why: String) {
        let Some(staged) = self.record.staged.take() else {
            return;
        };
        let version = staged.version;
        self.log(Notice::Withdrawn { version, why });
        if staged.manifest.is_some() {
            self.work.add(Task::Withdraw);
        }
    }

    /// What becomes of the restart, for whoever has just installed something.
    pub(crate) fn restart_sentence(&mut self, now: Now) -> String {
        let Some(staged) = &self.record.staged else {
            return String::new();
        };
        match staged.restart {
            RestartWhen::Never => "`wherry reboot` restarts into it".to_owned(),
            RestartWhen::Now | RestartWhen::Policy => {
                self.consider_restart(now);
                match self.restart.waits_for(&self.lock) {
                    Some(why) => format!("the restart waits: {why}"),
                    None => "the machine restarts now".to_owned(),
                }
            }
        }
    }

    pub(crate) fn wake_lock(&mut self, now: Now) {
        if self.lock_tick.is_some_and(|tick| tick <= now.boot) {
            self.lock_tick = None;
            self.step_lock(now, LockEvent::Tick);
        }
    }

    /// Tells the FleetLock client, and does what it asks for.
    pub(crate) fn step_lock(&mut self, now: Now, event: LockEvent) {
        for action in self.lock.step(event) {
            match action {
                LockAction::Record(client) => self.record.lock = client,
                LockAction::Send(request) => self.act(Action::AskLock(request)),
                LockAction::Wait(time) => self.lock_tick = Some(now.boot + time),
                LockAction::Reboot => self.restart = Restart::Granted,
            }
        }
    }
}
