//! A process that does nothing.
//!
//! It holds a place that must not be empty: a systemd scope starts with a
//! process in it, and ends with its last one.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::wait::waitpid;
use nix::unistd::{Pid, pipe2, read};

use crate::{Error, sys};

/// A child that waits for its end, which comes at the latest with the caller's.
#[derive(Debug)]
pub struct Placeholder {
    pid: Pid,
    /// The other end is the child's: when all of this one are closed, it exits.
    hold: Option<OwnedFd>,
}

impl Placeholder {
    /// Starts it. It has no descriptors of the caller.
    pub fn new() -> Result<Placeholder, Error> {
        let failed = |call| move |errno| Error::Start { call, errno };
        let (wait, hold) = pipe2(OFlag::O_CLOEXEC).map_err(failed("pipe"))?;
        let (pid, _) = sys::spawn(0, None, || {
            // The caller's end too, which would keep it alive forever.
            if sys::place(wait.as_raw_fd(), 0).is_ok() && sys::close_from(1).is_ok() {
                while read(sys::placed(0), &mut [0]) == Err(Errno::EINTR) {}
            }
            0
        })
        .map_err(failed("clone3"))?;
        Ok(Placeholder {
            pid,
            hold: Some(hold),
        })
    }

    /// Its number.
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Ends it, and waits until it is gone.
    pub fn end(self) {}
}

impl Drop for Placeholder {
    fn drop(&mut self) {
        drop(self.hold.take());
        while waitpid(self.pid, None) == Err(Errno::EINTR) {}
    }
}
