//! A release on trial, as seen by PID 1: the last resort for one whose updater
//! never comes up.
//!
//! systemd-boot counts the boots of a release that has not proven itself, and
//! tells in an EFI variable which entry it took with which count. Where that
//! count says that the release is on trial, somebody has to confirm within
//! [`LIMIT`] that it works, which the service `updater` does when it has blessed
//! the release. Otherwise the machine restarts, and when the tries are used up
//! the loader takes the release before. The updater, once it runs, judges sooner
//! and knows more; it moves this limit behind its own.
//!
//! ```text
//! looking ── no count, or a guard's ──▶ none
//!    └── +left-done, at most 3 tries ──▶ waiting ── confirmed ──▶ none
//!                                           └──── the time is over ──▶ restart
//! ```
//!
//! The variable is read by a child: mounting efivarfs asks the firmware for each
//! variable, and firmware takes its time.

use std::fs;
use std::path::Path;
use std::time::Duration;

use layout::entry::{COUNTED, Tries, counted_path};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::epoll::EpollFlags;
use serde::{Deserialize, Serialize};
use supervisor::{Event, Shutdown};

use crate::cmdline::TrialLimit;
use crate::init::Init;
use crate::job::Job;
use crate::kernel_log::log;
use crate::machine;
use crate::reap::Child;
use crate::source::Source;

/// How long after the kernel's start a release on trial must be confirmed.
/// Checking a large state partition is not waited for: where one takes longer,
/// `wherry.trial=` says so.
const LIMIT: Duration = Duration::from_secs(20 * 60);

const EFIVARS: &str = "/sys/firmware/efi/efivars";

/// Where the reason for a restart is kept for the updater, below the state.
const EXPIRED: &str = "updater/trial-expired";

/// What PID 1 knows of the trial.
#[derive(Debug, Default)]
pub struct Trial {
    job: Option<Job>,
    /// The trial that runs.
    pub waiting: Option<Waiting>,
    /// Why the machine restarts, where it does for this.
    pub expired: Option<String>,
}

/// A trial that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// The boot entry's file, as the loader named it.
    pub entry: String,
    /// When the machine restarts without a confirmation, since the kernel's start.
    pub until: Duration,
}

/// What the child found.
#[derive(Debug, Serialize, Deserialize)]
enum Found {
    /// The entry that was counted.
    Counted(String),
    /// The firmware's variables cannot be read.
    Complaint(String),
}

impl Trial {
    /// As an earlier run of PID 1 left it.
    pub fn inherited(waiting: Option<Waiting>) -> Self {
        Self {
            waiting,
            ..Self::default()
        }
    }

    /// Whether the child is at work.
    pub fn is_busy(&self) -> bool {
        self.job.is_some()
    }

    /// When the loop has to look at it.
    pub fn deadline(&self) -> Option<Duration> {
        self.waiting.as_ref().map(|waiting| waiting.until)
    }
}

impl Init {
    /// Begins to find out whether the release is on trial.
    pub(crate) fn look_for_trial(&mut self) {
        // Without EFI there is no variable, and no loader of ours.
        if self.cmdline.trial == TrialLimit::Off || !Path::new(EFIVARS).exists() {
            return;
        }
        let job = Job::start(|reporter| {
            if let Some(found) = read_variable() {
                reporter.send(&found);
            }
        });
        let watched = job.and_then(|job| {
            self.sources
                .add(&job.descriptor(), Source::Trial, EpollFlags::EPOLLIN)?;
            self.children.insert(job.pid, Child::Trial);
            self.trial.job = Some(job);
            Ok(())
        });
        if let Err(error) = watched {
            log!(
                Error,
                "cannot find out whether the release is on trial: {error}"
            );
        }
    }

    /// The child reports.
    pub(crate) fn take_trial_reports(&mut self) {
        let Some(job) = &mut self.trial.job else {
            return;
        };
        let (reports, ended) = job.reports::<Found>();
        if ended {
            self.sources.remove(&job.descriptor());
        }
        for found in reports {
            match found {
                Found::Counted(entry) => self.begin_trial(entry),
                Found::Complaint(complaint) => log!(Warning, "{complaint}"),
            }
        }
    }

    /// The child has ended.
    pub(crate) fn trial_child_ended(&mut self) {
        self.take_trial_reports();
        if let Some(job) = self.trial.job.take() {
            self.sources.remove(&job.descriptor());
        }
    }

    fn begin_trial(&mut self, entry: String) {
        if !Tries::of_file(&entry).is_some_and(Tries::is_trial) {
            return;
        }
        let until = match self.cmdline.trial {
            TrialLimit::Usual => LIMIT,
            TrialLimit::After(limit) => limit,
            TrialLimit::Off => return,
        };
        log!(
            Notice,
            "{entry} is on trial: the machine restarts unless the updater confirms it within {} s \
             of the start",
            until.as_secs()
        );
        self.trial.waiting = Some(Waiting { entry, until });
    }

    /// Somebody says that the release works.
    pub(crate) fn confirm_boot(&mut self) {
        if let Some(waiting) = self.trial.waiting.take() {
            log!(Notice, "{} is confirmed", waiting.entry);
        }
    }

    /// Somebody judges the release and needs until `until`.
    pub(crate) fn extend_trial(&mut self, until: Duration) {
        if let Some(waiting) = &mut self.trial.waiting {
            waiting.until = until;
        }
    }

    /// Restarts the machine when nobody has confirmed in time.
    pub(crate) fn watch_trial(&mut self) {
        let is_over = self
            .trial
            .deadline()
            .is_some_and(|until| machine::now() >= until);
        if !is_over || self.supervisor.shutdown().is_some() {
            return;
        }
        let Some(waiting) = self.trial.waiting.take() else {
            return;
        };
        let reason = format!(
            "nobody confirmed within {} s that the release {} works ({})",
            waiting.until.as_secs(),
            self.machine.version,
            waiting.entry
        );
        log!(
            Error,
            "{reason}: restarting, so that the boot loader can fall back"
        );
        crate::console::say(&format!("wherry: {reason}; restarting\n"));
        self.trial.expired = Some(reason);
        self.feed(Event::Shutdown(Shutdown::Reboot));
    }
}

/// Keeps the reason for the updater of the release that comes up next. It may
/// block.
pub fn keep_reason(state: &Path, reason: &str) -> std::io::Result<()> {
    let path = state.join(EXPIRED);
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, format!("{reason}\n"))
}

/// For the child: mounts the firmware's variables, reads the one, unmounts.
fn read_variable() -> Option<Found> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC | MsFlags::MS_RDONLY;
    if let Err(error) = mount(
        Some("efivarfs"),
        EFIVARS,
        Some("efivarfs"),
        flags,
        None::<&str>,
    ) {
        return Some(Found::Complaint(format!(
            "cannot mount {EFIVARS}, so a release on trial is not limited in time: {}",
            error.desc()
        )));
    }
    let variable = Path::new(EFIVARS).join(COUNTED);
    let value = fs::read(&variable);
    let _ = umount2(EFIVARS, MntFlags::empty());
    match value {
        Ok(value) => counted_path(&value).map(Found::Counted),
        // Not counted.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(error) => Some(Found::Complaint(format!(
            "cannot read {}: {error}",
            variable.display()
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_is_where_the_updater_looks() {
        let state = tempfile::tempdir().unwrap();
        keep_reason(state.path(), "nobody confirmed").unwrap();
        let kept = fs::read_to_string(state.path().join(EXPIRED)).unwrap();
        assert_eq!(kept, "nobody confirmed\n");
    }
}
