//! The calls of the test program that have no safe wrapper.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::unistd::{ForkResult, Pid, fork};

/// Owns a descriptor that this process got by execve(2) or recvmsg(2).
pub fn owned(number: RawFd) -> OwnedFd {
    // SAFETY: LISTEN_FDNAMES or the message names an open descriptor, and the
    // program takes each of them once.
    unsafe { OwnedFd::from_raw_fd(number) }
}

/// A child that runs `work` and exits with 0.
pub fn fork_to(work: impl FnOnce()) -> nix::Result<Pid> {
    // SAFETY: the program has one thread here, so no lock is held by another.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            work();
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { nix::libc::_exit(0) }
        }
    }
}
