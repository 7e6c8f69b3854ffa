//! Descriptors over a Unix socket.

use std::ffi::c_void;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

use super::check;

/// Sends a message with one descriptor (SCM_RIGHTS). Does not allocate.
pub fn send_descriptor(
    socket: BorrowedFd<'_>,
    message: &[u8],
    descriptor: RawFd,
) -> Result<(), Errno> {
    /// Room for one control message with a descriptor, aligned as the kernel wants it.
    #[repr(C)]
    struct Control {
        header: libc::cmsghdr,
        descriptor: RawFd,
        _padding: [u8; 4],
    }
    let mut control = Control {
        header: libc::cmsghdr {
            // SAFETY: only computes a length.
            cmsg_len: unsafe { libc::CMSG_LEN(size_of::<RawFd>() as u32) } as usize,
            cmsg_level: libc::SOL_SOCKET,
            cmsg_type: libc::SCM_RIGHTS,
        },
        descriptor,
        _padding: [0; 4],
    };
    let mut part = libc::iovec {
        iov_base: message.as_ptr().cast_mut().cast::<c_void>(),
        iov_len: message.len(),
    };
    // SAFETY: a msghdr is plain data, for which all zero is valid.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = ptr::from_mut(&mut part);
    header.msg_iovlen = 1;
    header.msg_control = ptr::from_mut(&mut control).cast();
    header.msg_controllen = size_of::<Control>() as _;
    loop {
        // SAFETY: the header points to a part and a control message that live
        // across the call; sendmsg(2) writes to neither.
        let sent = unsafe { libc::sendmsg(socket.as_raw_fd(), &header, libc::MSG_NOSIGNAL) };
        match check(sent as _) {
            Err(Errno::EINTR) => {}
            Ok(length) if (length as usize) < message.len() => return Err(Errno::EMSGSIZE),
            result => return result.map(drop),
        }
    }
}
