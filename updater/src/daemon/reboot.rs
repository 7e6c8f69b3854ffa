//! The restart: when the policy allows it, with the FleetLock server's consent,
//! after the release was made known to the boot loader. And the end of this
//! process.
//!
//! ```text
//! staged ─ policy says yes ─▶ FleetLock ─ slot granted ─▶ publish ─▶ PID 1 restarts
//! ```

use std::time::Duration;

use control::Request;
use fetch::Settings;
use jiff::Timestamp;
use policy::{Action, Event as LockEvent, Mode, Pending, Wish};
use tokio::sync::mpsc::UnboundedReceiver;
use updater_control::Reboot;

use super::{Daemon, Event, Purpose, now};
use crate::boot_evidence::Ended;
use crate::say::{self, Level};
use crate::worker::{News, Order};
use crate::{lock_client, pid1};

/// The folder with the locks of software on the machine.
pub(super) const LOCKS: &str = "lock";
/// After a restart that PID 1 refused.
const RETRY: Duration = Duration::from_secs(60);
/// How long the end of this process may be put off for the boot loader to be
/// told. What is cut off there is done at the next occasion.
const LAST_PUBLISH: Duration = Duration::from_secs(20);

impl Daemon {
    /// Whether the machine restarts now, and if not, why.
    pub(super) fn consider_reboot(&mut self) {
        if self.lock_tick.is_some_and(|tick| tick <= now()) {
            self.lock_tick = None;
            let actions = self.lock.step(LockEvent::Tick);
            self.act(actions);
        }
        if self.rebooting || self.given_up || !self.judged {
            return;
        }
        let Some(staged) = self.keeper.record.staged.clone() else {
            return self.do_not_reboot(None);
        };
        if staged.reboot == Reboot::Never {
            return self.do_not_reboot(Some("whoever installed it"));
        }
        if self.job.is_some() || !self.queue.is_empty() {
            return self.do_not_reboot(Some("the end of what is under way"));
        }
        if self
            .reboot_again
            .is_some_and(|again| Timestamp::now() < again)
        {
            return;
        }
        if staged.manifest.is_some() {
            if let Some(why) = self.withdrawn(&staged.version) {
                return self.withdraw(&why);
            }
            if !self.has_asked && !self.settings.config.repositories.is_empty() {
                // It may have been halted since. Where nobody answers, it boots:
                // it was signed, and a machine may be off the network for long.
                self.next_check = now();
                return self.do_not_reboot(Some("a look whether it is still offered"));
            }
        }
        let mut standing = self.keeper.record.standing.clone();
        if staged.reboot == Reboot::Now {
            standing.wish = Some(Wish {
                now: true,
                ..standing.wish.unwrap_or_default()
            });
        }
        let pending = Pending {
            version: &staged.version,
            since: staged.since,
        };
        let config = &self.settings.config;
        let verdict = policy::may_reboot(
            config,
            &standing,
            &self.machine.id,
            pending,
            &self.locks(),
            Timestamp::now(),
        );
        match verdict {
            policy::Reboot::Yes => {
                self.reboot_again = None;
                let client = config
                    .fleet_lock
                    .as_ref()
                    .map(|server| server.client(&self.machine.id));
                self.reboot_waits_for = client.as_ref().map(|_| {
                    let refusal = self.lock.refusal().unwrap_or("it was not asked yet");
                    format!("the FleetLock server: {refusal}")
                });
                let force = staged.reboot == Reboot::Now;
                let actions = self.lock.step(LockEvent::Wanted { client, force });
                self.act(actions);
            }
            policy::Reboot::No { until, why } => {
                self.reboot_waits_for = Some(match until {
                    Some(until) => format!("{why}, until {}", super::status::seconds(until)),
                    None => why.to_string(),
                });
                // What software on the machine or the operator changes is seen by
                // looking again each minute.
                self.reboot_again = until.map(|until| {
                    let soon = Timestamp::now() + jiff::SignedDuration::from_secs(60);
                    until.min(soon)
                });
                let actions = self.lock.step(LockEvent::Unwanted);
                self.act(actions);
            }
        }
    }

    /// Why a staged release is not to be booted any more, as far as is known.
    fn withdrawn(&self, version: &release::Version) -> Option<String> {
        policy::withdrawn(self.channel.as_ref()?, version)
    }

    /// Nothing is to be restarted for now; a FleetLock server that is being asked
    /// hears of it, or it would grant a restart into nothing.
    fn do_not_reboot(&mut self, waits_for: Option<&str>) {
        self.reboot_waits_for = waits_for.map(str::to_owned);
        self.reboot_again = None;
        let actions = self.lock.step(LockEvent::Unwanted);
        self.act(actions);
    }

    /// The names of the local lock files.
    fn locks(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.arguments.run.join(LOCKS))
            .into_iter()
            .flatten()
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .collect();
        names.sort();
        names
    }

    /// What becomes of the restart, for whoever has just installed something.
    pub(super) fn reboot_sentence(&mut self) -> String {
        let Some(staged) = &self.keeper.record.staged else {
            return String::new();
        };
        match staged.reboot {
            Reboot::Never => "`wherry reboot` restarts into it".to_owned(),
            Reboot::Now | Reboot::Policy => {
                self.consider_reboot();
                match &self.reboot_waits_for {
                    Some(why) => format!("the restart waits: {why}"),
                    None => "the machine restarts now".to_owned(),
                }
            }
        }
    }

    /// The release on trial is given up: whatever windows say, the machine
    /// restarts.
    pub(super) fn want_reboot_by_force(&mut self) {
        self.given_up = true;
        let client = self
            .settings
            .config
            .fleet_lock
            .as_ref()
            .map(|server| server.client(&self.machine.id));
        let actions = self.lock.step(LockEvent::Wanted {
            client,
            force: true,
        });
        self.act(actions);
    }

    /// What runs is good: a slot that the FleetLock server holds is given back.
    pub(super) fn settle_lock(&mut self) {
        let actions = self.lock.step(LockEvent::Settled);
        self.act(actions);
    }

    /// Does what the FleetLock client asks for.
    pub(super) fn act(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::Record(client) => {
                    self.keeper.record.lock = client;
                    self.save();
                }
                Action::Send(request) => {
                    let config = &self.settings.config;
                    let mut settings = Settings::new(config.repositories.clone());
                    settings.proxy.clone_from(&config.proxy);
                    if let Some(path) = &config.certificates {
                        settings.certificates = std::fs::read(path).unwrap_or_default();
                    }
                    let events = self.events.clone();
                    tokio::spawn(async move {
                        let answer = lock_client::send(&request, &settings).await;
                        let _ = events.send(Event::Lock(answer));
                    });
                }
                Action::Wait(time) => self.lock_tick = Some(now() + time),
                Action::Reboot => self.reboot(),
            }
        }
    }

    /// Nothing stands against the restart any more.
    fn reboot(&mut self) {
        self.rebooting = true;
        let unpublished = self
            .keeper
            .record
            .staged
            .as_ref()
            .and_then(|staged| staged.manifest.clone());
        let is_given_up = matches!(
            self.keeper.record.boot.as_ref().map(|boot| &boot.ended),
            Some(Ended::Unhealthy { .. })
        );
        if let Some(manifest) = unpublished.filter(|_| !is_given_up) {
            let order = Order::Publish(manifest);
            self.queue.push_back((Purpose::Publish, order));
        }
    }

    /// The restart that was decided did not come about.
    pub(super) fn reboot_failed(&mut self, why: &str) {
        self.rebooting = false;
        self.given_up = false;
        self.reboot_waits_for = Some(why.to_owned());
        let retry = jiff::SignedDuration::try_from(RETRY).unwrap_or_default();
        self.reboot_again = Some(Timestamp::now() + retry);
        let actions = self.lock.step(LockEvent::Unwanted);
        self.act(actions);
    }

    /// Asks PID 1 for the restart, as soon as nothing is left to do before.
    pub(super) async fn ask_for_reboot(&mut self) {
        if !self.rebooting || self.asked_for_reboot || self.job.is_some() || !self.queue.is_empty()
        {
            return;
        }
        if let Some(boot) = &mut self.keeper.record.boot
            && boot.ended == Ended::Unknown
        {
            boot.ended = Ended::Asked;
        }
        self.save();
        let into = self
            .keeper
            .record
            .staged
            .as_ref()
            .map(|staged| staged.version.to_string())
            .unwrap_or_default();
        say::event(
            Level::Notice,
            "reboot",
            &[("into", &into)],
            "the machine restarts",
        );
        match pid1::ask(&self.arguments.pid1, &Request::Reboot).await {
            Ok(_) => self.asked_for_reboot = true,
            Err(error) => {
                say::event(Level::Error, "reboot-failed", &[], &error);
                if let Some(boot) = &mut self.keeper.record.boot
                    && boot.ended == Ended::Asked
                {
                    boot.ended = Ended::Unknown;
                }
                self.reboot_failed(&error);
            }
        }
    }

    /// The end of this process: of the machine too, or of the service alone.
    pub(super) async fn end(&mut self, received: &mut UnboundedReceiver<Event>) {
        self.notify.send("STOPPING=1");
        let stopping = pid1::status(&self.arguments.pid1)
            .await
            .is_ok_and(|status| status.machine.phase == "stopping");
        if stopping {
            if let Some(boot) = &mut self.keeper.record.boot
                && boot.ended == Ended::Unknown
            {
                boot.ended = Ended::Asked;
            }
            self.publish_at_last(received).await;
        }
        self.save();
    }

    /// The operator restarts the machine: in the modes in which that is up to
    /// him, what is staged boots then.
    async fn publish_at_last(&mut self, received: &mut UnboundedReceiver<Event>) {
        let is_up_to_him = self.settings.config.mode != Mode::Automatic;
        let is_held = self.keeper.record.standing.held(Timestamp::now()).is_some();
        let manifest = self
            .keeper
            .record
            .staged
            .as_ref()
            .filter(|staged| self.withdrawn(&staged.version).is_none())
            .and_then(|staged| staged.manifest.clone());
        let Some(manifest) = manifest.filter(|_| is_up_to_him && !is_held && self.job.is_none())
        else {
            return;
        };
        self.begin(Purpose::Publish, Order::Publish(manifest), None);
        let published = async {
            while let Some(event) = received.recv().await {
                if let Event::Worker(news) = event {
                    let is_over = matches!(news, News::Ended(..));
                    self.hear(news);
                    if is_over {
                        return;
                    }
                }
            }
        };
        if tokio::time::timeout(LAST_PUBLISH, published).await.is_err() {
            say::event(
                Level::Warning,
                "publish-failed",
                &[],
                "what is staged does not boot yet: there was no time to tell the boot loader",
            );
        }
    }
}
