//! What the tests cannot do safely.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};

/// A descriptor that was just received over a socket.
pub fn received(descriptor: RawFd) -> File {
    // SAFETY: the caller has it from a message that is read once, so nothing
    // else owns it.
    unsafe { File::from_raw_fd(descriptor) }
}

/// Waits for a seccomp notification, and makes its call fail with `errno`.
/// Returns the call's number and the caller's pid.
pub fn refuse_call(listener: &File, errno: i32) -> (i32, u32) {
    // SAFETY: both are plain data, for which all zero is valid, and what the
    // kernel wants to be given.
    let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: the listener's ioctl writes a seccomp_notif, which lives across the call.
    let received = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_RECV as _,
            &raw mut request,
        )
    };
    assert_eq!(received, 0, "{}", std::io::Error::last_os_error());
    let mut answer = libc::seccomp_notif_resp {
        id: request.id,
        val: 0,
        error: -errno,
        flags: 0,
    };
    // SAFETY: the listener's ioctl reads a seccomp_notif_resp, which lives across the call.
    let sent = unsafe {
        libc::ioctl(
            listener.as_raw_fd(),
            libc::SECCOMP_IOCTL_NOTIF_SEND as _,
            &raw mut answer,
        )
    };
    assert_eq!(sent, 0, "{}", std::io::Error::last_os_error());
    (request.data.nr, request.pid)
}
