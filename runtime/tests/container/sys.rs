//! What the tests cannot do safely.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{FromRawFd, RawFd};

/// A descriptor that was just received over a socket.
pub fn received(descriptor: RawFd) -> File {
    // SAFETY: the caller has it from a message that is read once, so nothing
    // else owns it.
    unsafe { File::from_raw_fd(descriptor) }
}
