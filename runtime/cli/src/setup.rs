//! Waiting for a process that sets itself up.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use runtime::{Setup, SetupError, Step, setup_outcome};

/// How far the process has come; waits until there is something to report.
pub fn next(setup: BorrowedFd<'_>) -> Result<Setup> {
    loop {
        let mut fds = [PollFd::new(setup.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait for the container's process"),
        }
        match setup_outcome(setup)? {
            Setup::Pending => {}
            known @ (Setup::Environment | Setup::Created | Setup::Executed | Setup::Failed(_)) => {
                return Ok(known);
            }
        }
    }
}

/// A failed set-up in the words that runc's callers look for: docker and podman
/// turn a missing program into 127, and one that may not be executed into 126.
pub fn failure(error: &SetupError, program: &str) -> anyhow::Error {
    let begin = "unable to start container process";
    match error.step {
        Step::Execute => {}
        Step::Search => {
            return anyhow!("{begin}: exec: {program:?}: executable file not found in $PATH");
        }
        _ => return anyhow!("{begin}: {error}"),
    }
    match Errno::from_raw(error.errno) {
        Errno::ENOENT if !program.contains('/') => {
            anyhow!("{begin}: exec: {program:?}: executable file not found in $PATH")
        }
        Errno::ENOENT => anyhow!("{begin}: exec: {program:?}: no such file or directory"),
        Errno::EACCES => anyhow!("{begin}: exec: {program:?}: permission denied"),
        errno => anyhow!(
            "{begin}: exec: {program:?}: {}",
            errno.desc().to_ascii_lowercase()
        ),
    }
}

/// Waits for the end of a process that has failed or was killed, so that no
/// caller of this program inherits it.
pub fn reap(process: Pid) {
    loop {
        match waitpid(process, Some(WaitPidFlag::__WALL)) {
            Err(Errno::EINTR) => {}
            // Ended; or not a child of this program, so that nobody inherits it
            // either.
            Ok(_) | Err(_) => return,
        }
    }
}
