//! Sends the seccomp listener to its agent (runtime-spec, config-linux.md,
//! "Seccomp" and "The Container Process State").
//!
//! Once the filter is loaded any call may be one that the agent has to answer,
//! so the process itself cannot send the listener. A second process does, which
//! was cloned before, shares the descriptors, and has no filter.

use std::collections::HashMap;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use crate::birth::{Birth, Kept, failed};
use crate::error::Error;
use crate::sys;

/// How often, and how far apart, the second process looks for the listener.
const LOOKS: u32 = 100_000;
const PAUSE: Duration = Duration::from_micros(100);
/// The width of a number that is known only later.
const NUMBER: usize = 10;

/// A seccomp agent (runtime-spec, config-linux.md, "The Container Process State").
#[derive(Debug, Clone, Copy)]
pub struct Listener<'a> {
    /// The container's id.
    pub id: &'a str,
    /// The bundle's directory, absolute.
    pub bundle: &'a Path,
    /// A connected Unix stream socket (`linux.seccomp.listenerPath`).
    pub socket: BorrowedFd<'a>,
}

/// What the agent of a specification's profile is told.
#[derive(Debug, Clone, Default)]
pub(crate) struct Plan {
    version: String,
    annotations: HashMap<String, String>,
    metadata: Option<String>,
}

impl Plan {
    /// Takes it from the specification, whose profile was checked.
    pub fn new(spec: &Spec) -> Plan {
        let seccomp = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.seccomp().as_ref());
        Plan {
            version: spec.version().clone(),
            annotations: spec.annotations().clone().unwrap_or_default(),
            metadata: seccomp.and_then(|seccomp| seccomp.listener_metadata().clone()),
        }
    }

    /// The message for one process; `status` is the container's.
    fn ready(&self, id: &str, bundle: &Path, status: &str, socket: Kept) -> Result<Ready, Error> {
        let hole = " ".repeat(NUMBER);
        let text = |value: serde_json::Value| value.to_string();
        let mut message = String::from("{\"ociVersion\":");
        message += &text(self.version.as_str().into());
        message += ",\"fds\":[\"seccompFd\"],\"pid\":";
        let first = message.len();
        message += &hole;
        message += ",\"metadata\":";
        message += &text(self.metadata.as_deref().unwrap_or_default().into());
        message += ",\"state\":{\"ociVersion\":";
        message += &text(self.version.as_str().into());
        message += ",\"id\":";
        message += &text(id.into());
        message += ",\"status\":";
        message += &text(status.into());
        message += ",\"pid\":";
        let second = message.len();
        message += &hole;
        message += ",\"bundle\":";
        message += &text(bundle.to_string_lossy().as_ref().into());
        message += ",\"annotations\":";
        message += &serde_json::to_string(&self.annotations).map_err(Error::Spec)?;
        message += "}}";
        Ok(Ready {
            message: message.into_bytes(),
            pids: [first, second],
            cells: sys::SharedCells::new().map_err(failed("mmap"))?,
            socket,
        })
    }
}

/// Prepares sending the listener, if the profile has one.
pub(crate) fn ready(
    plan: Option<&Plan>,
    agent: Option<Listener<'_>>,
    status: &str,
    birth: &mut Birth<'_>,
) -> Result<Option<Ready>, Error> {
    let Some(plan) = plan else {
        return Ok(None);
    };
    let Some(agent) = agent else {
        return Err(Error::invalid(
            "linux.seccomp.listenerPath",
            "needs a connection to it: an action is SCMP_ACT_NOTIFY",
        ));
    };
    let socket = birth.keep(agent.socket);
    plan.ready(agent.id, agent.bundle, status, socket).map(Some)
}

/// Everything needed to send a listener, made before the clone.
#[derive(Debug)]
pub(crate) struct Ready {
    message: Vec<u8>,
    /// Where the process's number goes.
    pids: [usize; 2],
    /// The listener's number (from 1 on), and the process's in the caller's pid namespace.
    cells: sys::SharedCells,
    socket: Kept,
}

impl Ready {
    /// The caller knows the process's number only after the clone.
    pub fn set_pid(&self, pid: Pid) {
        self.cells.set(1, pid.as_raw());
    }

    /// In the process: loads its filter, and has the listener sent.
    pub fn hand_over(
        &mut self,
        load: impl FnOnce() -> Result<Option<OwnedFd>, Errno>,
    ) -> Result<(), Errno> {
        let (pid, _pidfd) = sys::spawn(sys::CLONE_FILES, None, || match self.send() {
            Ok(()) => 0,
            Err(errno) => errno as i32,
        })?;
        let listener = load()?;
        // Zero is standard input, and never the listener.
        let number = listener.as_ref().map_or(-1, AsRawFd::as_raw_fd);
        self.cells.set(0, number);
        loop {
            match waitpid(pid, Some(WaitPidFlag::__WALL)) {
                Ok(WaitStatus::Exited(_, 0)) => return Ok(()),
                Ok(WaitStatus::Exited(_, errno)) => return Err(Errno::from_raw(errno)),
                Err(Errno::EINTR) => {}
                Ok(_) => return Err(Errno::ECHILD),
                // The profile does not let it wait: the agent has the listener,
                // or will get it.
                Err(_) => return Ok(()),
            }
        }
    }

    /// In the second process.
    fn send(&mut self) -> Result<(), Errno> {
        for _ in 0..LOOKS {
            let (listener, pid) = (self.cells.get(0), self.cells.get(1));
            if listener < 0 {
                return Err(Errno::EBADF);
            }
            if listener > 0 && pid > 0 {
                for at in self.pids {
                    write_number(&mut self.message[at..at + NUMBER], pid);
                }
                let socket = self.socket.fd();
                sys::send_descriptor(socket, &self.message, listener)?;
                // The agent reads until the end, which would otherwise come only
                // when the program is executed.
                return shutdown(socket.as_raw_fd(), Shutdown::Both);
            }
            std::thread::sleep(PAUSE);
        }
        Err(Errno::ETIMEDOUT)
    }
}

/// Writes a number right-aligned; JSON allows spaces before it.
fn write_number(place: &mut [u8], number: i32) {
    let mut rest = number;
    for digit in place.iter_mut().rev() {
        if rest == 0 {
            break;
        }
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_right_aligned() {
        let mut place = *b"          ";
        write_number(&mut place, 4_194_304);
        assert_eq!(&place, b"   4194304");
    }
}
