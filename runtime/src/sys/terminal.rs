//! ioctl_tty(2): terminals of devpts.

use std::ffi::{c_int, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;

use super::{check, descriptor};

/// Lets the other end of a new terminal be opened.
pub fn unlock_terminal(master: BorrowedFd<'_>) -> Result<(), Errno> {
    let unlock: c_int = 0;
    // SAFETY: TIOCSPTLCK reads an int, which lives across the call.
    check(c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &unlock)
    }))
    .map(drop)
}

/// The other end of a terminal, opened without a path; close-on-exec.
pub fn open_slave(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes flags by value and makes a descriptor.
    descriptor(c_long::from(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags)
    }))
}

/// Sets the size of a terminal's window.
pub fn set_terminal_size(terminal: BorrowedFd<'_>, rows: u16, columns: u16) -> Result<(), Errno> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads a winsize, which lives across the call.
    check(c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &size)
    }))
    .map(drop)
}

/// Makes a terminal the controlling one of the caller's session.
pub fn control_terminal(terminal: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: TIOCSCTTY takes its argument by value: none is stolen.
    check(c_long::from(unsafe {
        libc::ioctl(terminal.as_raw_fd(), libc::TIOCSCTTY, 0 as c_int)
    }))
    .map(drop)
}
