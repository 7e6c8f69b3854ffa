//! The processes of a cgroup: listed, killed, frozen and thawed.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Cgroup, read, value_of, walk};
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

/// The cgroup in which another process of a container can be born: the
/// container's, unless its processes have left that for inner ones and it
/// delegates controllers (the kernel's rule of no internal processes); then the
/// one that its first process, to which `container` refers, is in.
///
/// `None`: the container's own.
pub(crate) fn inner_cgroup(
    cgroup: BorrowedFd<'_>,
    container: BorrowedFd<'_>,
) -> Result<Option<OwnedFd>, Errno> {
    match read(cgroup, "cgroup.subtree_control") {
        Ok(controllers) if !controllers.trim().is_empty() => {}
        Ok(_) | Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(errno),
    }
    let load = |path: String| {
        std::fs::read_to_string(path)
            .map_err(|error| error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    };
    let info = load(format!("/proc/self/fdinfo/{}", container.as_raw_fd()))?;
    let pid = info
        .lines()
        .find_map(|line| line.strip_prefix("Pid:"))
        .and_then(|pid| pid.trim().parse::<u32>().ok())
        .ok_or(Errno::ESRCH)?;
    let groups = load(format!("/proc/{pid}/cgroup"))?;
    let path = groups.lines().find_map(|line| line.strip_prefix("0::/"));
    let mut rest = path.unwrap_or_default();
    // The path begins above the container's cgroup: the longest end of it that
    // exists below that is the way down. The container decides what exists
    // there, but none of it is outside its own cgroup.
    let beneath = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
        .resolve(
            ResolveFlag::RESOLVE_BENEATH
                | ResolveFlag::RESOLVE_NO_SYMLINKS
                | ResolveFlag::RESOLVE_NO_XDEV,
        );
    while !rest.is_empty() {
        match openat2(cgroup, rest, beneath) {
            Ok(inner) => return Ok(Some(inner)),
            Err(Errno::ENOENT | Errno::ENODEV | Errno::EXDEV) => {}
            Err(errno) => return Err(errno),
        }
        rest = rest.split_once('/').map_or("", |(_, rest)| rest);
    }
    Ok(None)
}

fn collect(top: BorrowedFd<'_>, processes: &mut Vec<Pid>) -> Result<(), Errno> {
    let mut list = |directory: BorrowedFd<'_>| match read(directory, "cgroup.procs") {
        // Zero is a process of another pid namespace, which has no number here.
        Ok(text) => {
            processes.extend(
                text.lines()
                    .filter_map(|line| line.parse().ok())
                    .filter(|number| *number > 0)
                    .map(Pid::from_raw),
            );
            Ok(())
        }
        // A threaded one: its processes are listed at the root of the threaded
        // domain. Or one that was removed in the meantime.
        Err(Errno::EOPNOTSUPP | Errno::ENODEV | Errno::ENOENT) => Ok(()),
        Err(errno) => Err(errno),
    };
    list(top)?;
    walk(top, list, |_, _| Ok(()))
}
