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
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, sync};
use supervisor::Shutdown;

use crate::init::Init;
use crate::kernel_log::log;
use crate::machine;
use crate::mount::{CGROUP, SERVICES};
use crate::storage::STATE;
use crate::{sys, trial};

/// How long writing back and unmounting may take. A disk that takes longer does
/// not answer any more; ext4's journal keeps the state whole.
const LIMIT: Duration = Duration::from_secs(20);

/// The machine is ending.
#[derive(Clone, Copy, Debug)]
pub struct Ending {
    shutdown: Shutdown,
    child: Option<Pid>,
    until: Duration,
}

impl Ending {
    /// When it ends at the latest.
    pub fn deadline(&self) -> Duration {
        self.until
    }
}

impl Init {
    /// All services are stopped or given up.
    pub(crate) fn finish(&mut self, shutdown: Shutdown, now: Duration) {
        if self.ending.is_some() {
            return;
        }
        log!(Notice, "the services are stopped");
        if let Err(error) = fs::write(format!("{CGROUP}/{SERVICES}/cgroup.kill"), "1") {
            log!(Warning, "cannot kill what is left of the services: {error}");
        }
        let child = match sys::fork_to(|| put_away(self.trial.expired.as_deref())) {
            Ok(child) => Some(child),
            Err(error) => {
                log!(Error, "cannot unmount the state: {}", error.desc());
                None
            }
        };
        self.ending = Some(Ending {
            shutdown,
            child,
            until: now
                + if child.is_some() {
                    LIMIT
                } else {
                    Duration::ZERO
                },
        });
    }

    /// Ends the machine when the child is done or the time is over.
    pub(crate) fn continue_ending(&mut self) {
        let Some(ending) = self.ending else {
            return;
        };
        let done = match ending.child {
            None => true,
            Some(child) => match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::StillAlive) => false,
                // Reaped here or with the others.
                Ok(_) | Err(_) => true,
            },
        };
        let late = machine::now() >= ending.until;
        if !done && !late {
            return;
        }
        if late && !done {
            log!(
                Error,
                "the disks do not answer; the machine ends all the same"
            );
        }
        let (mode, word) = match ending.shutdown {
            Shutdown::Poweroff => (RebootMode::RB_POWER_OFF, "powering off"),
            Shutdown::Reboot => (RebootMode::RB_AUTOBOOT, "restarting"),
            Shutdown::Halt => (RebootMode::RB_HALT_SYSTEM, "halting"),
        };
        log!(Notice, "{word}");
        crate::console::say(&format!("wherry: {word}\n"));
        if ending.shutdown == Shutdown::Halt
            && let Some(watchdog) = &mut self.watchdog
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
    if let Err(error) = machine::save_clock(Path::new(STATE)) {
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
