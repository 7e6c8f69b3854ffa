//! Processes by number, such that another one with the same number is never
//! taken for them.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::sys;

/// A process, for as long as the machine runs: its number and the time when it
/// was started, in the kernel's clock ticks since boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    pub pid: i32,
    pub start_time: u64,
}

impl Identity {
    /// The process with this number, if there is one that has not ended.
    pub fn of(pid: i32) -> Option<Identity> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; the state is the third field.
        let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
        let threads: u32 = fields.get(17)?.parse().ok()?;
        // A process whose first thread has ended goes on with its others.
        if matches!(*fields.first()?, "Z" | "X" | "x") && threads < 2 {
            return None;
        }
        let start_time = fields.get(19)?.parse().ok()?;
        Some(Identity { pid, start_time })
    }

    pub fn is_alive(self) -> bool {
        Identity::of(self.pid) == Some(self)
    }

    /// A descriptor of the process; `None` where it has ended.
    pub fn open(self) -> Result<Option<OwnedFd>, Errno> {
        let process = match sys::pidfd_open(self.pid) {
            Ok(process) => process,
            Err(Errno::ESRCH) => return Ok(None),
            Err(errno) => return Err(errno),
        };
        // Only now, when the number can no longer go to another one unnoticed.
        Ok(self.is_alive().then_some(process))
    }

    /// Sends a signal; `false` where the process has ended.
    pub fn signal(self, signal: i32) -> Result<bool, Errno> {
        let Some(process) = self.open()? else {
            return Ok(false);
        };
        match sys::send_signal(process.as_fd(), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_not_another_of_its_number() {
        let pid = std::process::id() as i32;
        let this = Identity::of(pid).unwrap();
        assert!(this.is_alive());
        assert_eq!(this.signal(0), Ok(true));
        let earlier = Identity {
            start_time: this.start_time - 1,
            ..this
        };
        assert!(!earlier.is_alive());
        assert_eq!(earlier.signal(0), Ok(false));
    }

    #[test]
    fn a_process_that_was_not_waited_for_has_ended() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id() as i32;
        while Identity::of(pid).is_some() {
            std::thread::yield_now();
        }
        child.wait().unwrap();
        assert_eq!(Identity::of(pid), None);
    }
}
