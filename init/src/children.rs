//! The processes that PID 1 has started and not reaped yet. Every one has an
//! entry, which says what its end means; without an entry it is an orphan of
//! some container.

use std::collections::BTreeMap;

use nix::errno::Errno;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use supervisor::Exit;

use crate::service::Id;

/// What a process is to PID 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Child {
    /// The first process of a service's container.
    Service(Id),
    /// A probe of a service's health in one run.
    Probe(Id, u32),
    /// The child that mounts the state partition or reads definitions from it.
    State,
    /// The child that reads the boot loader's count.
    Trial,
    /// The child that unmounts the state partition at the end.
    Ending,
    /// A child that closes descriptors of a service.
    Closer(Id),
}

/// A process that has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Its number.
    pub pid: Pid,
    /// What it was; `None` for an orphan.
    pub child: Option<Child>,
    /// How it ended.
    pub exit: Exit,
}

/// The processes, by number.
#[derive(Debug, Default)]
pub struct Children(BTreeMap<Pid, Child>);

/// How many ended processes are reaped before PID 1 looks at anything else.
pub const BATCH: usize = 1024;

impl Children {
    /// Notes a process that was started.
    pub fn insert(&mut self, pid: Pid, child: Child) {
        self.0.insert(pid, child);
    }

    /// Reaps one process; `None` when none has ended.
    pub fn reap(&mut self) -> Option<Ended> {
        loop {
            let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, Exit::Code(code)),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, Exit::Signal(signal as i32)),
                Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return None,
                Ok(_) | Err(_) => continue,
            };
            return Some(Ended {
                pid,
                child: self.0.remove(&pid),
                exit,
            });
        }
    }

    /// The probes under way, with service and run.
    pub fn probes(&self) -> impl Iterator<Item = (Pid, Id, u32)> {
        self.0.iter().filter_map(|(pid, child)| match child {
            Child::Probe(id, run) => Some((*pid, *id, *run)),
            Child::Service(_) | Child::State | Child::Trial | Child::Ending | Child::Closer(_) => {
                None
            }
        })
    }

    /// How many of them are that.
    pub fn count(&self, child: Child) -> usize {
        self.0.values().filter(|other| **other == child).count()
    }

    /// Forgets one of them that is that.
    #[cfg(test)]
    pub fn take(&mut self, child: Child) -> Option<Pid> {
        let (pid, _) = self.0.iter().find(|(_, other)| **other == child)?;
        let pid = *pid;
        self.0.remove(&pid);
        Some(pid)
    }
}

/// Raises SIGCHLD, so that the loop comes back for the rest after it has looked
/// at everything else: one signal stands for any number of children.
pub fn come_back() {
    let _ = nix::sys::signal::raise(Signal::SIGCHLD);
}

/// An end in words.
pub fn describe(exit: Exit) -> String {
    match exit {
        Exit::Code(code) => format!("exited with {code}"),
        Exit::OutOfMemory => "ran out of memory".to_owned(),
        Exit::Signal(number) => match Signal::try_from(number) {
            Ok(signal) => format!("killed by {signal}"),
            Err(_) => format!("killed by signal {number}"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_told_by_code_or_by_the_signals_name() {
        assert_eq!(describe(Exit::Code(3)), "exited with 3");
        assert_eq!(describe(Exit::Signal(9)), "killed by SIGKILL");
        assert_eq!(describe(Exit::Signal(99)), "killed by signal 99");
    }

    #[test]
    fn only_probes_are_carried_over_a_reexecution() {
        let mut children = Children::default();
        for (pid, child) in [
            (2, Child::Service(0)),
            (3, Child::Probe(1, 7)),
            (4, Child::State),
            (5, Child::Ending),
        ] {
            children.insert(Pid::from_raw(pid), child);
        }
        let probes: Vec<_> = children.probes().collect();
        assert_eq!(probes, [(Pid::from_raw(3), 1, 7)]);
    }
}
