//! The place where a descriptor comes as a bare number: from whoever started
//! this process.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};

/// Takes over an inherited descriptor. To be called at most once a number,
/// before anything else of this process opens one.
pub fn inherit(number: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is ours alone: the service manager passed it
    // (sd_listen_fds(3)), and this process has not opened any above 2 yet, so
    // nothing else in it owns the number. Whether it is open is checked before
    // it is used for anything else.
    let descriptor = unsafe { OwnedFd::from_raw_fd(number) };
    match fcntl(&descriptor, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC)) {
        Ok(_) => Ok(descriptor),
        Err(errno) => {
            // It is not open: nothing to close.
            std::mem::forget(descriptor);
            Err(errno.into())
        }
    }
}
