//! Word to PID 1, as sd_notify(3)

use std::env;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixDatagram;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

/// Says something on `$NOTIFY_SOCKET`, where there is one. What cannot be said
/// is not: nobody else would hear that either.
pub fn say(state: &str) {
    if let (Some(path), Ok(socket)) = (env::var_os("NOTIFY_SOCKET"), UnixDatagram::unbound()) {
        let _ = socket.send_to(state.as_bytes(), path);
    }
}

/// Asks PID 1 to keep descriptors for the next start of this service.
pub fn keep(name: &str, descriptors: &[BorrowedFd<'_>]) {
    let Some(path) = env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    if let (Ok(address), Ok(socket)) = (UnixAddr::new(path.as_os_str()), UnixDatagram::unbound()) {
        let text = format!("FDSTORE=1\nFDNAME={name}");
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let _ = sendmsg(
            socket.as_raw_fd(),
            &[IoSlice::new(text.as_bytes())],
            &[ControlMessage::ScmRights(&numbers)],
            MsgFlags::MSG_NOSIGNAL,
            Some(&address),
        );
    }
}
