//! The log service: takes what every service says, and what the kernel says,
//! into the journal
//!
//! PID 1 makes each service's output a pipe, keeps it, and hands its read end
//! to this process (`outputs.rs`). From there a line goes: looked at in the
//! pipe (`peek.rs`), cut from its neighbours (`lines.rs`), stored (`store.rs`,
//! crate `journal`), and only then taken out of the pipe (`output.rs`,
//! `ledger.rs`). So this process may be killed or restarted at any moment and
//! no line is lost;
//! and while it is slow, pipes fill and services wait. A service that writes
//! too much loses its own oldest lines: its share of the journal is the limit,
//! not a rate.
//!
//! `docs/log.md` is the manual, `docs/journal.md` the format.

mod arguments;
mod clock;
mod kernel_log;
mod ledger;
mod lines;
mod output;
mod outputs;
mod peek;
mod serve;
mod store;
mod sync;
mod sys;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::process::ExitCode;

use journal::BootId;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use service::{Descriptors, Level};

use crate::arguments::Arguments;
use crate::outputs::Outputs;
use crate::serve::Server;
use crate::store::Store;

/// Under which name this service's own entries are stored: its own in PID 1's
/// catalogue.
const OWN_NAME: &str = "log";

/// The kernel's name for this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Runs the program: `arguments` begin with its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    // First of all, while no other descriptor is open.
    let descriptors = Descriptors::from_environment();
    let arguments = match arguments::parse(arguments.into_iter().skip(1)) {
        Ok(arguments) => arguments,
        Err(mistake) => return service::wrong_usage(&mistake, arguments::USAGE),
    };
    let served = descriptors
        .map_err(Into::into)
        .and_then(|descriptors| serve(descriptors, arguments));
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            service::say(Level::Error, &error.to_string());
            ExitCode::FAILURE
        }
    }
}

fn serve(
    mut descriptors: Descriptors,
    arguments: Arguments,
) -> Result<(), Box<dyn std::error::Error>> {
    let outputs = Outputs::new(descriptors.one(outputs::NAME)?);
    let signals = stop_signals()?;
    let store = Store::open(arguments.directory, arguments.limits, boot_id()?)?;
    let mut server = Server::new(outputs, signals, store, arguments.kernel_log)?;
    server.announce();
    server.take_up(descriptors.all(ledger::NAME));
    server.serve()?;
    server.stop()?;
    Ok(())
}

fn stop_signals() -> io::Result<SignalFd> {
    let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT]);
    signals.thread_block()?;
    let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
    Ok(SignalFd::with_flags(&signals, flags)?)
}

fn boot_id() -> Result<BootId, Box<dyn std::error::Error>> {
    let text = fs::read_to_string(BOOT_ID).map_err(|error| format!("{BOOT_ID}: {error}"))?;
    Ok(text
        .parse()
        .map_err(|error| format!("{BOOT_ID}: {error}"))?)
}
