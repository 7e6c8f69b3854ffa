//! The only thing here that needs unsafe code.
#![allow(unsafe_code)]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

/// A descriptor that came with a message (SCM_RIGHTS).
pub fn received(number: RawFd) -> OwnedFd {
    // SAFETY: called once for the number in a control message, which the kernel
    // has made for this process just now and nothing else owns.
    unsafe { OwnedFd::from_raw_fd(number) }
}
