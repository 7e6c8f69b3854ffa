//! The calls that no safe library wraps: a session's controlling terminal and
//! a terminal's window size.
#![allow(unsafe_code)]

use std::fs::File;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::{
    SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask,
};
use nix::unistd::setsid;

nix::ioctl_read_bad!(get_window_size, libc::TIOCGWINSZ, libc::winsize);
nix::ioctl_write_ptr_bad!(set_window_size, libc::TIOCSWINSZ, libc::winsize);
nix::ioctl_write_int_bad!(set_controlling_terminal, libc::TIOCSCTTY);

/// A terminal's size in rows and columns; zeros where it does not know.
pub fn window_size(terminal: &File) -> nix::Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one `winsize` to its argument, which outlives
    // the call; the descriptor is open.
    unsafe { get_window_size(terminal.as_raw_fd(), &raw mut size) }?;
    Ok((size.ws_row, size.ws_col))
}

/// Tells a terminal its size.
pub fn resize(terminal: &File, rows: u16, columns: u16) -> nix::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCSWINSZ reads one `winsize` from its argument, which outlives
    // the call; the descriptor is open.
    unsafe { set_window_size(terminal.as_raw_fd(), &raw const size) }?;
    Ok(())
}

/// Makes the program lead a session of its own whose controlling terminal is
/// its standard input, with no signal blocked or ignored: what the service was
/// started with is no matter of the shell's.
pub fn lead_session(command: &mut Command) {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: between fork and exec the closure makes only calls that are
    // async-signal-safe (setsid, ioctl, sigaction, sigprocmask), and allocates
    // nothing; the default disposition runs no code of ours;
    // descriptor 0 is open there, since the caller has set standard input.
    unsafe {
        command.pre_exec(move || {
            setsid()?;
            let stdin = BorrowedFd::borrow_raw(0);
            set_controlling_terminal(stdin.as_raw_fd(), 0)?;
            for signal in Signal::iterator() {
                // SIGKILL and SIGSTOP cannot be set, and are never ignored.
                let _ = sigaction(signal, &default);
            }
            sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
                .map_err(|errno: Errno| errno.into())
        });
    }
}
