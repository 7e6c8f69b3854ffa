//! The two places where a descriptor comes as a bare number: from whoever
//! started this process, and in a message.

#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

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

/// One message of a sequenced-packet socket and the descriptors in it; the
/// number of bytes is 0 once the other side has closed.
pub fn receive(socket: impl AsFd, bytes: &mut [u8]) -> io::Result<(usize, Vec<OwnedFd>)> {
    let mut space = nix::cmsg_space!([RawFd; 4]);
    let mut parts = [IoSliceMut::new(bytes)];
    let message = recvmsg::<()>(
        socket.as_fd().as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT,
    )?;
    let mut descriptors = Vec::new();
    // An error here means that the control data was cut off: what fitted is
    // installed all the same, but nix does not say it. There is room for four
    // and PID 1 sends one.
    if let Ok(controls) = message.cmsgs() {
        for control in controls {
            if let ControlMessageOwned::ScmRights(numbers) = control {
                // SAFETY: the kernel has just installed these in this
                // process, for this call alone; nothing else knows them.
                descriptors.extend(
                    numbers
                        .into_iter()
                        .map(|number| unsafe { OwnedFd::from_raw_fd(number) }),
                );
            }
        }
    }
    Ok((message.bytes, descriptors))
}
