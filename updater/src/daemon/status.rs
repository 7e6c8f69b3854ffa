//! What is shown of the machine: to clients, to PID 1, to software on the machine.

use std::fs;

use jiff::{Timestamp, TimestampRound, Unit};
use slots::{SlotId, Tries, View};
use updater_control::{
    Booted, Failed, Hold, LastCheck, Phase, Record, SlotState, SlotStatus, Status, Trial,
};

use super::{Daemon, boots, now};
use crate::worker;

/// The file that says that a restart is needed; its content is the version.
const MARKER: &str = "reboot-required";

impl Daemon {
    /// How things stand.
    pub(super) fn status(&self) -> Status {
        let record = &self.keeper.record;
        let standing = &record.standing;
        let config = &self.settings.config;
        let time = Timestamp::now();
        let mut problems: Vec<String> = [
            &self.settings.problem,
            &self.keeper.problem,
            &self.disk_problem,
        ]
        .into_iter()
        .flatten()
        .cloned()
        .collect();
        if let Some(refusal) = self.lock.refusal() {
            problems.push(format!("the FleetLock server: {refusal}"));
        }
        let next_check = self.next_check.saturating_sub(now());
        let has_repository = !config.repositories.is_empty();
        Status {
            booted: Booted {
                version: self.machine.version.to_string(),
                slot: self.machine.slot.clone(),
                root_hash: self.machine.root_hash.map(|hash| hash.to_string()),
                trial: self.trial_status(),
            },
            slots: self.view.as_ref().map(slots).unwrap_or_default(),
            progress: self
                .job
                .as_ref()
                .map_or_else(|| worker::phase(Phase::Idle), |job| job.progress.clone()),
            reboot_required: record
                .staged
                .as_ref()
                .map(|staged| staged.version.to_string()),
            reboot_waits_for: self.reboot_waits_for.clone(),
            mode: config.mode.to_string(),
            channel: has_repository.then(|| config.channel.clone()),
            repositories: config.repositories.clone(),
            last_check: record.last_check.as_ref().map(|check| LastCheck {
                time: seconds(check.time),
                error: check.error.clone(),
                found: check.found.clone(),
            }),
            next_check: has_repository
                .then(|| time.checked_add(next_check).ok().map(seconds))
                .flatten(),
            pin: standing.pin.as_ref().map(ToString::to_string),
            hold: standing.held(time).map(|hold| Hold {
                until: hold.until.map(seconds),
                because: hold.reason.clone().unwrap_or_default(),
            }),
            failed: standing
                .failed
                .iter()
                .map(|failure| Failed {
                    version: failure.version.to_string(),
                    time: seconds(failure.at),
                    reason: failure.reason.clone(),
                })
                .collect(),
            problems,
        }
    }

    fn trial_status(&self) -> Option<Trial> {
        let trial = self.trial.as_ref().filter(|_| self.on_trial)?;
        let now = now();
        let tries = self
            .view
            .as_ref()
            .and_then(|view| view.booted_entry()?.tries);
        Some(Trial {
            tries_left: tries.map_or(0, |tries| tries.left),
            waits_for: trial.waits_for(now),
            seconds_left: trial.limit().saturating_sub(now).as_secs(),
        })
    }

    /// What was done.
    pub(super) fn history(&self) -> Vec<Record> {
        self.keeper
            .record
            .history
            .iter()
            .map(|event| Record {
                time: seconds(event.time),
                kind: boots::kind(event.kind),
                from: event.from.as_ref().map(ToString::to_string),
                to: event.to.to_string(),
                reason: event.reason.clone(),
                fetched: event.fetched,
                reused: event.reused,
            })
            .collect()
    }

    /// One line for `wherry status`, the marker for software, and a sign of life
    /// for whoever waits.
    pub(super) fn show(&mut self) {
        let line = if let Some(job) = &self.job
            && job.progress.phase != Phase::Idle
        {
            let phase = job.progress.phase.as_str();
            match &job.progress.version {
                Some(version) => format!("{phase} for {version}"),
                None => phase.to_owned(),
            }
        } else if let Some(staged) = &self.keeper.record.staged {
            format!("{} waits for a restart", staged.version)
        } else if self.on_trial {
            format!("{} is on trial", self.machine.version)
        } else if let Some(problem) = &self.disk_problem {
            problem.clone()
        } else {
            match &self.keeper.record.last_check {
                Some(check) => check.error.clone().unwrap_or_else(|| check.found.clone()),
                None => String::new(),
            }
        };
        self.notify.status(&line);
        self.mark();
        if let Some(job) = &self.job
            && let Some(client) = &job.client
        {
            let _ = client.send(updater_control::Reply::Progress(job.progress.clone()));
        }
    }

    fn mark(&mut self) {
        let wanted = self
            .keeper
            .record
            .staged
            .as_ref()
            .map(|staged| format!("{}\n", staged.version));
        if self.marked == wanted {
            return;
        }
        let path = self.arguments.run.join(MARKER);
        // In memory: nothing to keep over a power cut.
        let result = match &wanted {
            Some(text) => fs::write(&path, text),
            None => fs::remove_file(&path),
        };
        if result.is_ok() || wanted.is_none() {
            self.marked = wanted;
        }
    }
}

fn slots(view: &View) -> Vec<SlotStatus> {
    let next = slots::loader_choice(&view.entries).and_then(|entry| entry.root_hash);
    SlotId::ALL
        .into_iter()
        .map(|id| {
            let entry = view
                .entries
                .iter()
                .filter(|entry| {
                    entry
                        .root_hash
                        .is_some_and(|hash| view.slot_of(&hash) == Some(id))
                })
                .min_by(|a, b| slots::order(a, b));
            let is_booted = view.booted_slot() == Some(id);
            let state = match entry {
                _ if is_booted => SlotState::Booted,
                None => SlotState::Empty,
                Some(entry) if entry.is_bad() => SlotState::Bad,
                Some(entry) if entry.tries.is_some_and(Tries::is_trial) => SlotState::Trial,
                Some(_) => SlotState::Good,
            };
            SlotStatus {
                slot: worker::letter(id),
                version: entry.map(|entry| entry.version.to_string()),
                state,
                tries_left: entry.and_then(|entry| entry.tries).map(|tries| tries.left),
                next: entry.is_some_and(|entry| entry.root_hash == next),
            }
        })
        .collect()
}

/// To the second: more says nothing.
pub(super) fn seconds(time: Timestamp) -> String {
    time.round(TimestampRound::new().smallest(Unit::Second))
        .unwrap_or(time)
        .to_string()
}
