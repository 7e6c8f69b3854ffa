//! Performs the lifecycle's actions.

use std::fs;

use control::Request;
use fetch::Settings;
use lifecycle::Action;

use super::{Daemon, Event, TRIAL_EXPIRED, now};
use crate::arguments::Run;
use crate::say::{self, Level};
use crate::{lock_client, pid1, pstore};

/// The folder with the locks of software on the machine.
pub(super) const LOCKS: &str = "lock";

impl Daemon {
    pub(super) fn perform(&mut self, event: lifecycle::Event) {
        let actions = self.lifecycle.step(now(), event);
        // First, so that a crash forgets no action.
        if let Some(problem) = self.keeper.save(self.lifecycle.record()) {
            say::event(Level::Error, "record", &[], &problem);
        }
        for action in actions {
            self.act(action);
        }
    }

    fn act(&mut self, action: Action) {
        match action {
            // The worker ends only with this process.
            Action::Work(order) => drop(self.orders.send(order)),
            Action::Progress(client, progress) => self.clients.progress(client, &progress),
            Action::Answer(client, reply) => {
                let notes = self.keeper.problem.clone().into_iter().collect();
                self.clients.answer(client, reply, notes);
            }
            Action::AskLock(request) => self.ask_lock(request),
            Action::Restart => self.ask_pid1(Request::Reboot, Some(Event::RestartAnswered)),
            Action::ConfirmBoot => {
                self.ask_pid1(Request::ConfirmBoot, Some(Event::BootConfirmed));
            }
            Action::ExtendTrial(until) => {
                let until_us = u64::try_from(until.as_micros()).unwrap_or(u64::MAX);
                self.ask_pid1(Request::ExtendTrial { until_us }, None);
            }
            Action::ForgetTraces => {
                pstore::erase(&self.arguments.pstore);
                let _ = fs::remove_file(self.arguments.state.join(TRIAL_EXPIRED));
            }
            Action::Log(notice) => super::log::write(&notice),
        }
    }

    fn ask_lock(&self, request: policy::Request) {
        let config = &self.settings.config;
        let mut settings = Settings::new(config.repositories.clone());
        settings.proxy.clone_from(&config.proxy);
        if let Some(path) = &config.certificates {
            // What is wrong with it, the next check says.
            let read = config::read_bytes(path, crate::source::LONGEST);
            settings.certificates = read.ok().flatten().unwrap_or_default();
        }
        let events = self.events.clone();
        tokio::spawn(async move {
            let answer = lock_client::send(&request, &settings).await;
            let _ = events.send(Event::LockAnswered(answer));
        });
    }

    /// Asks PID 1, and passes its answer on as this event.
    fn ask_pid1(&self, request: Request, event: Option<fn(Result<(), String>) -> Event>) {
        let path = self.arguments.pid1.clone();
        let events = self.events.clone();
        tokio::spawn(async move {
            let result = pid1::ask(&path, &request).await.map(drop);
            if let Some(event) = event {
                let _ = events.send(event(result));
            }
        });
    }
}

/// The names of the local lock files.
pub(super) fn locks(arguments: &Run) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(arguments.run.join(LOCKS))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
