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
use serde::{Deserialize, Serialize};

use crate::children::{Child, Children};
use crate::cmdline::TrialLimit;
use crate::job::Job;
use crate::kernel_log::log;
use crate::source::{Source, Sources};

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

impl Trial {
    /// Begins to find out whether the release is on trial.
    pub fn look(&mut self, limit: TrialLimit, sources: &Sources, children: &mut Children) {
        // Without EFI there is no variable, and no loader of ours.
        if limit == TrialLimit::Off || !Path::new(EFIVARS).exists() {
            return;
        }
        let job = Job::start(children, Child::Trial, sources, Source::Trial, |reporter| {
            if let Some(found) = read_variable() {
                reporter.send(&found);
            }
        });
        match job {
            Ok(job) => self.job = Some(job),
            Err(error) => log!(
                Error,
                "cannot find out whether the release is on trial: {error}"
            ),
        }
    }

    /// The child reports.
    pub fn take_reports(&mut self, limit: TrialLimit, sources: &Sources) {
        let Some(job) = &mut self.job else {
            return;
        };
        for found in job.reports(sources) {
            self.take(found, limit);
        }
    }

    /// The child has ended; its last report may still be in the pipe.
    pub fn job_ended(&mut self, limit: TrialLimit, sources: &Sources) {
        self.take_reports(limit, sources);
        if let Some(job) = self.job.take() {
            job.unwatch(sources);
        }
    }

    fn take(&mut self, found: Found, limit: TrialLimit) {
        let entry = match found {
            Found::Counted(entry) if Tries::of_file(&entry).is_some_and(Tries::is_trial) => entry,
            Found::Counted(_) => return,
            Found::Complaint(complaint) => return log!(Warning, "{complaint}"),
        };
        let until = match limit {
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
        self.waiting = Some(Waiting { entry, until });
    }

    /// Somebody says that the release works.
    pub fn confirm(&mut self) {
        if let Some(waiting) = self.waiting.take() {
            log!(Notice, "{} is confirmed", waiting.entry);
        }
    }

    /// Somebody judges the release and needs until `until`.
    pub fn extend(&mut self, until: Duration) {
        if let Some(waiting) = &mut self.waiting {
            waiting.until = until;
        }
    }

    /// Ends the trial of `version` when nobody has confirmed in time: returns
    /// why the machine has to restart.
    pub fn expire(&mut self, now: Duration, version: &str) -> Option<&str> {
        self.deadline().filter(|until| now >= *until)?;
        let waiting = self.waiting.take()?;
        let reason = format!(
            "nobody confirmed within {} s that the release {version} works ({})",
            waiting.until.as_secs(),
            waiting.entry
        );
        Some(self.expired.insert(reason))
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

    fn on_trial(limit: TrialLimit) -> Trial {
        let mut trial = Trial::default();
        trial.take(Found::Counted("wherry_2.0+2-1.efi".to_owned()), limit);
        trial
    }

    #[test]
    fn a_trial_that_nobody_confirms_expires_once_at_its_limit() {
        let mut trial = on_trial(TrialLimit::After(Duration::from_secs(60)));
        trial.extend(Duration::from_secs(90));
        assert_eq!(trial.expire(Duration::from_secs(89), "2.0"), None);
        let reason = trial.expire(Duration::from_secs(90), "2.0").unwrap();
        assert!(
            reason.contains("within 90 s") && reason.contains("2.0"),
            "{reason}"
        );
        assert_eq!(trial.expire(Duration::from_secs(91), "2.0"), None);
        assert!(trial.expired.is_some(), "it is kept for the updater");
    }

    #[test]
    fn a_confirmed_or_unlimited_trial_never_expires() {
        let mut trial = on_trial(TrialLimit::Usual);
        assert_eq!(trial.deadline(), Some(LIMIT));
        trial.confirm();
        assert_eq!(trial.expire(Duration::MAX, "2.0"), None);
        let mut trial = on_trial(TrialLimit::Off);
        assert_eq!(trial.expire(Duration::MAX, "2.0"), None);
    }

    #[test]
    fn the_reason_is_where_the_updater_looks() {
        let state = tempfile::tempdir().unwrap();
        keep_reason(state.path(), "nobody confirmed").unwrap();
        let kept = fs::read_to_string(state.path().join(EXPIRED)).unwrap();
        assert_eq!(kept, "nobody confirmed\n");
    }
}
