//! The end of the machine, after the supervisor has stopped the services: what
//! is left is killed, the time is saved, the state partition unmounted, all in
//! a child and within a limit; then reboot(2). The hardware watchdog stays
//! armed behind all of it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::reboot::{RebootMode, reboot};
use nix::unistd::sync;
use supervisor::{ServiceName, Shutdown};

use crate::children::{Child, Children};
use crate::clock;
use crate::kernel_log::log;
use crate::mount::{CGROUP, SERVICES};
use crate::storage::STATE;
use crate::watchdog::Watchdog;
use crate::{sys, trial};

/// How long writing back and unmounting may take. A disk that takes longer does
/// not answer any more; ext4's journal keeps the state whole.
const LIMIT: Duration = Duration::from_secs(20);

/// The services stop before the machine ends, and a person in front of it sees nothing
/// happen: when to say next what is waited for.
#[derive(Clone, Copy, Debug, Default)]
pub struct Announcements {
    next: Option<Duration>,
}

impl Announcements {
    /// Most machines are stopped before the first one.
    const FIRST: Duration = Duration::from_secs(3);
    const NEXT: Duration = Duration::from_secs(10);

    /// When the next one is due.
    pub fn deadline(&self) -> Option<Duration> {
        self.next
    }

    /// What to say now, where these services are awaited until these times.
    pub fn due<'a>(
        &mut self,
        now: Duration,
        awaited: impl Iterator<Item = (&'a ServiceName, Duration)>,
    ) -> Option<String> {
        let awaited: Vec<String> = awaited
            .map(|(name, until)| {
                let left = until.saturating_sub(now).as_millis().div_ceil(1000);
                format!("{name} ({left} s at most)")
            })
            .collect();
        if awaited.is_empty() {
            self.next = None;
            return None;
        }
        if now < *self.next.get_or_insert(now + Self::FIRST) {
            return None;
        }
        self.next = Some(now + Self::NEXT);
        Some(format!("waiting for the end of {}", awaited.join(", ")))
    }
}

/// The machine is ending.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    shutdown: Shutdown,
    /// Whether the child is at work.
    unmounting: bool,
    until: Duration,
}

impl Ending {
    /// All services are stopped or given up: kills what is left of them, and
    /// begins to unmount. `trial_expired` is kept for the updater.
    pub fn begin(
        shutdown: Shutdown,
        now: Duration,
        trial_expired: Option<&str>,
        children: &mut Children,
    ) -> Self {
        log!(Notice, "the services are stopped");
        if let Err(error) = fs::write(format!("{CGROUP}/{SERVICES}/cgroup.kill"), "1") {
            log!(Warning, "cannot kill what is left of the services: {error}");
        }
        let child = sys::fork_to(|| put_away(trial_expired));
        match child {
            Ok(child) => children.insert(child, Child::Ending),
            Err(error) => log!(Error, "cannot unmount the state: {}", error.desc()),
        }
        Self {
            shutdown,
            unmounting: child.is_ok(),
            until: now + LIMIT,
        }
    }

    /// The child has ended.
    pub fn unmounted(&mut self) {
        self.unmounting = false;
    }

    /// When it ends at the latest.
    pub fn deadline(&self) -> Duration {
        if self.unmounting {
            self.until
        } else {
            Duration::ZERO
        }
    }

    /// Ends the machine when the child is done or the time is over.
    pub fn end(&self, now: Duration, watchdog: Option<&mut Watchdog>) {
        if now < self.deadline() {
            return;
        }
        if self.unmounting {
            log!(Error, "the disks do not answer; the machine ends anyway");
        }
        let (mode, word) = match self.shutdown {
            Shutdown::Poweroff => (RebootMode::RB_POWER_OFF, "powering off"),
            Shutdown::Reboot => (RebootMode::RB_AUTOBOOT, "restarting"),
            Shutdown::Halt => (RebootMode::RB_HALT_SYSTEM, "halting"),
        };
        log!(Notice, "{word}");
        crate::console::say(&format!("wherry: {word}\n"));
        if self.shutdown == Shutdown::Halt
            && let Some(watchdog) = watchdog
        {
            watchdog.disarm();
        }
        // Only a failure returns; in a container there may be no machine to end.
        let Err(error) = reboot(mode);
        crate::emergency::enter(&format!("reboot: {}", error.desc()));
    }
}

/// The child's work.
fn put_away(trial_expired: Option<&str>) {
    if let Some(reason) = trial_expired
        && let Err(error) = trial::keep_reason(Path::new(STATE), reason)
    {
        log!(Warning, "cannot keep why the machine restarts: {error}");
    }
    if let Err(error) = clock::save(Path::new(STATE)) {
        log!(Warning, "cannot save the time: {error}");
    }
    for path in ["/var", STATE] {
        match umount2(path, MntFlags::empty()) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(error) => {
                log!(
                    Warning,
                    "cannot unmount {path}: {}; it becomes read-only",
                    error.desc()
                );
                let _ = mount(
                    None::<&str>,
                    path,
                    None::<&str>,
                    MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
                    None::<&str>,
                );
            }
        }
    }
    sync();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_waited_for_is_said_after_a_while_and_again() {
        let name: ServiceName = "web".parse().unwrap();
        let mut announcements = Announcements::default();
        let mut said = |second: u64, until: Option<u64>| {
            let awaited = until.map(|until| (&name, Duration::from_secs(until)));
            announcements.due(Duration::from_secs(second), awaited.into_iter())
        };
        assert_eq!(said(10, None), None);
        assert_eq!(said(10, Some(70)), None);
        assert_eq!(
            said(13, Some(70)).as_deref(),
            Some("waiting for the end of web (57 s at most)")
        );
        assert_eq!(said(14, Some(70)), None);
        assert!(said(23, Some(70)).is_some());
        assert_eq!(said(30, None), None);
        assert_eq!(announcements.deadline(), None);
    }

    #[test]
    fn the_end_waits_for_unmounting_and_no_longer_than_its_limit() {
        let mut ending = Ending {
            shutdown: Shutdown::Poweroff,
            unmounting: true,
            until: Duration::from_secs(20),
        };
        assert_eq!(ending.deadline(), Duration::from_secs(20));
        ending.end(Duration::from_secs(19), None);
        ending.unmounted();
        assert_eq!(ending.deadline(), Duration::ZERO);
    }
}
