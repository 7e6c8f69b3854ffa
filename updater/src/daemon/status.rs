//! The status for clients, for PID 1 and for software on the machine.

use std::fs;

use lifecycle::{Phase, seconds};
use slots::{SlotId, Tries, View};
use updater_control::{
    Booted, Failed, Hold, LastCheck, Record, SlotState, SlotStatus, Status, Trial,
};

use super::{Daemon, now};
use crate::wire;

/// The file that says that a restart is needed; its content is the version.
const MARKER: &str = "reboot-required";

impl Daemon {
    /// The status.
    pub(super) fn status(&self) -> Status {
        let lifecycle = &self.lifecycle;
        let now = now();
        let record = lifecycle.record();
        let standing = &record.standing;
        let config = &self.settings.config;
        let mut problems: Vec<String> = [
            self.settings.problem.as_deref(),
            self.keeper.problem.as_deref(),
            lifecycle.disk_problem(),
        ]
        .into_iter()
        .flatten()
        .map(str::to_owned)
        .collect();
        if let Some(refusal) = lifecycle.lock_refusal() {
            problems.push(format!("the FleetLock server: {refusal}"));
        }
        let next_check = lifecycle.next_check().saturating_sub(now.boot);
        let has_repository = !config.repositories.is_empty();
        Status {
            booted: Booted {
                version: lifecycle.machine().version.to_string(),
                slot: self.slot.clone(),
                root_hash: lifecycle.machine().root_hash.map(|hash| hash.to_string()),
                trial: self.trial_status(),
            },
            slots: lifecycle.view().map(slots).unwrap_or_default(),
            progress: wire::progress(&lifecycle.progress()),
            reboot_required: record
                .staged
                .as_ref()
                .map(|staged| staged.version.to_string()),
            reboot_waits_for: lifecycle.restart_waits_for(),
            mode: config.mode.to_string(),
            channel: has_repository.then(|| config.channel.clone()),
            repositories: config.repositories.clone(),
            last_check: record.last_check.as_ref().map(|check| LastCheck {
                time: seconds(check.time),
                error: check.error.clone(),
                found: check.found.clone(),
            }),
            next_check: has_repository
                .then(|| now.clock.checked_add(next_check).ok().map(seconds))
                .flatten(),
            pin: standing.pin.as_ref().map(ToString::to_string),
            hold: standing.held(now.clock).map(|hold| Hold {
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
        let trial = self.lifecycle.trial(now())?;
        Some(Trial {
            tries_left: trial.tries_left,
            waits_for: trial.waits_for,
            seconds_left: trial.left.as_secs(),
        })
    }

    /// What was done.
    pub(super) fn history(&self) -> Vec<Record> {
        self.lifecycle
            .record()
            .history
            .iter()
            .map(|event| Record {
                time: seconds(event.time),
                kind: wire::kind(event.kind),
                from: event.from.as_ref().map(ToString::to_string),
                to: event.to.to_string(),
                reason: event.reason.clone(),
                fetched: event.fetched,
                reused: event.reused,
            })
            .collect()
    }

    /// One line for `wherry status`, and the marker for software.
    pub(super) fn show(&mut self) {
        let line = self.line();
        self.notify.status(&line);
        self.mark();
    }

    fn line(&self) -> String {
        let lifecycle = &self.lifecycle;
        let record = lifecycle.record();
        let progress = lifecycle.progress();
        if progress.phase != Phase::Idle {
            let phase = wire::phase(progress.phase).as_str();
            match &progress.version {
                Some(version) => format!("{phase} for {version}"),
                None => phase.to_owned(),
            }
        } else if let Some(staged) = &record.staged {
            format!("{} waits for a restart", staged.version)
        } else if lifecycle.is_on_trial() {
            format!("{} is on trial", lifecycle.machine().version)
        } else if let Some(problem) = lifecycle.disk_problem() {
            problem.to_owned()
        } else {
            match &record.last_check {
                Some(check) => check.error.clone().unwrap_or_else(|| check.found.clone()),
                None => String::new(),
            }
        }
    }

    fn mark(&mut self) {
        let staged = self.lifecycle.record().staged.as_ref();
        let wanted = staged.map(|staged| format!("{}\n", staged.version));
        if self.marked == wanted {
            return;
        }
        let path = self.arguments.run.join(MARKER);
        // On a tmpfs: nothing to keep over a power cut.
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
                slot: id.to_string().to_lowercase(),
                version: entry.map(|entry| entry.version.to_string()),
                state,
                tries_left: entry.and_then(|entry| entry.tries).map(|tries| tries.left),
                next: entry.is_some_and(|entry| entry.root_hash == next),
            }
        })
        .collect()
}
