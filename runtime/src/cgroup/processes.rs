//! The processes of a cgroup: listed, killed, frozen and thawed.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Cgroup, read, subdirectories, value_of};
use crate::Error;

/// How long freezing may take: as long as the system calls that the processes
/// are in, of which the slowest wait for a disk.
const FREEZE_LIMIT: Duration = Duration::from_secs(10);
/// How often to look for processes on a kernel that does not kill them itself.
const KILL_ROUNDS: usize = 100;

impl Cgroup {
    /// Kills every process in it and below it, with no way for one to escape by forking.
    pub fn kill(&self) -> Result<(), Error> {
        match super::write(self.fd(), "cgroup.kill", "1") {
            Ok(()) => Ok(()),
            Err(Errno::ENOENT) => self.kill_one_by_one(),
            Err(errno) => Err(self.error("cgroup.kill", "write 1".into(), errno)),
        }
    }

    /// Kernels before 5.14. Frozen processes cannot fork, but die anyway.
    fn kill_one_by_one(&self) -> Result<(), Error> {
        // Without it the rounds below still find processes forked in the
        // meantime.
        let frozen = self.pause().is_ok();
        let mut killed = Ok(());
        for _ in 0..KILL_ROUNDS {
            let processes = self.processes()?;
            if processes.is_empty() {
                break;
            }
            for process in processes {
                match kill(process, Signal::SIGKILL) {
                    Ok(()) | Err(Errno::ESRCH) => {}
                    Err(errno) => killed = Err(errno),
                }
            }
            if frozen {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        if frozen {
            self.freeze(false)?;
        }
        killed.map_err(|errno| self.error("cgroup.procs", "kill".into(), errno))
    }

    /// Asks the kernel to freeze or thaw every process in it; returns at once.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        self.write("cgroup.freeze", if frozen { "1" } else { "0" })
    }

    /// Whether every process in it is frozen.
    pub fn frozen(&self) -> Result<bool, Error> {
        Ok(value_of(&self.read("cgroup.events")?, "frozen") == Some(1))
    }

    /// Freezes every process in it and waits until all are frozen, 10 s at
    /// most; then it is an error, and all are thawed.
    pub fn pause(&self) -> Result<(), Error> {
        self.freeze(true)?;
        self.wait_frozen(true).inspect_err(|_| {
            // The first error is the one reported.
            let _ = self.freeze(false);
        })
    }

    /// Thaws every process in it, and waits until they run.
    pub fn resume(&self) -> Result<(), Error> {
        self.freeze(false)?;
        self.wait_frozen(false)
    }

    fn wait_frozen(&self, wanted: bool) -> Result<(), Error> {
        let events = self.events()?;
        let deadline = Instant::now() + FREEZE_LIMIT;
        let failed = |errno| {
            let operation = if wanted { "freeze" } else { "thaw" };
            self.error("cgroup.events", operation.into(), errno)
        };
        while self.frozen()? != wanted {
            let rest = deadline.saturating_duration_since(Instant::now());
            if rest.is_zero() {
                return Err(failed(Errno::ETIMEDOUT));
            }
            // Start at the beginning: poll does not report changes from before
            // the first poll.
            let rest = PollTimeout::from(rest.as_millis().min(20) as u16);
            let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
            match poll(&mut fds, rest) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(failed(errno)),
            }
        }
        Ok(())
    }

    /// The processes in it and below it, by their numbers in the caller's pid namespace.
    pub fn processes(&self) -> Result<Vec<Pid>, Error> {
        let mut processes = Vec::new();
        collect(self.fd(), &mut processes)
            .map_err(|errno| self.error("cgroup.procs", "read".into(), errno))?;
        processes.sort_unstable();
        processes.dedup();
        Ok(processes)
    }
}

fn collect(directory: BorrowedFd<'_>, processes: &mut Vec<Pid>) -> Result<(), Errno> {
    match read(directory, "cgroup.procs") {
        // Zero is a process of another pid namespace, which has no number here.
        Ok(text) => processes.extend(
            text.lines()
                .filter_map(|line| line.parse().ok())
                .filter(|number| *number > 0)
                .map(Pid::from_raw),
        ),
        // A threaded one: its processes are listed at the root of the threaded
        // domain.
        Err(Errno::EOPNOTSUPP) => {}
        // Removed in the meantime.
        Err(Errno::ENODEV) => return Ok(()),
        Err(errno) => return Err(errno),
    }
    for (_, below) in subdirectories(directory)? {
        collect(below.as_fd(), processes)?;
    }
    Ok(())
}
