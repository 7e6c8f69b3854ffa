//! A console's terminal: opened, and set as a person expects it.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{
    ControlFlags, InputFlags, LocalFlags, OutputFlags, SetArg, Termios, tcgetattr, tcsetattr,
};

use crate::sys;

/// What a serial line has that does not know its size: every terminal has it.
const ROWS: u16 = 24;
const COLUMNS: u16 = 80;

/// Opens the terminal without making it anyone's, and without waiting for a
/// modem's carrier that a null-modem cable never raises.
pub fn open(path: &Path) -> io::Result<File> {
    let terminal = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    let flags = OFlag::from_bits_retain(fcntl(&terminal, FcntlArg::F_GETFL)?);
    fcntl(&terminal, FcntlArg::F_SETFL(flags & !OFlag::O_NONBLOCK))?;
    Ok(terminal)
}

/// Each key counts by itself and is not shown: for waiting for one. What was
/// typed stays, to be read by the shell.
pub fn set_quiet(terminal: &File) -> nix::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    make_sane(&mut settings);
    settings
        .local_flags
        .remove(LocalFlags::ICANON | LocalFlags::ECHO);
    tcsetattr(terminal, SetArg::TCSANOW, &settings)
}

/// Lines, echo, job control; speed and character size stay as the kernel's
/// command line has set them.
pub fn set_sane(terminal: &File) -> nix::Result<()> {
    let mut settings = tcgetattr(terminal)?;
    make_sane(&mut settings);
    // Not TCSAFLUSH, which would drop what was typed already.
    tcsetattr(terminal, SetArg::TCSANOW, &settings)?;
    if sys::window_size(terminal)? == (0, 0) {
        sys::resize(terminal, ROWS, COLUMNS)?;
    }
    Ok(())
}

fn make_sane(settings: &mut Termios) {
    settings.input_flags = InputFlags::BRKINT
        | InputFlags::ICRNL
        | InputFlags::IXON
        | InputFlags::IMAXBEL
        | InputFlags::IUTF8;
    settings.output_flags = OutputFlags::OPOST | OutputFlags::ONLCR;
    settings
        .control_flags
        .insert(ControlFlags::CREAD | ControlFlags::CLOCAL);
    // The line stays up when a shell ends.
    settings.control_flags.remove(ControlFlags::HUPCL);
    settings.local_flags = LocalFlags::ISIG
        | LocalFlags::ICANON
        | LocalFlags::IEXTEN
        | LocalFlags::ECHO
        | LocalFlags::ECHOE
        | LocalFlags::ECHOK
        | LocalFlags::ECHOCTL
        | LocalFlags::ECHOKE;
}
