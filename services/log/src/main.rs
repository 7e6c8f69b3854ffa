//! The log service: takes what every service says, and what the kernel says,
//! into the journal
//!
//! PID 1 makes each service's output a pipe, keeps it, and hands its read end
//! to this process (`outputs.rs`). From there a line goes: looked at in the
//! pipe (`peek.rs`), cut from its neighbours (`lines.rs`), stored (`store.rs`,
//! crate `journal`), and only then taken out of the pipe (`output.rs`,
//! `ledger.rs`). So this process may be killed or restarted at any moment and
//! no line is lost;
//! and while it is slow, pipes fill and services wait: there is no other rate
//! limit.
//!
//! `docs/log.md` is the manual, `docs/journal.md` the format.

mod arguments;
mod clock;
mod inherited;
mod kernel_log;
mod ledger;
mod lines;
mod notify;
mod output;
mod outputs;
mod peek;
mod serve;
mod store;
mod sync;
mod sys;

use std::env;
use std::fs;
use std::io;
use std::process::ExitCode;

use journal::BootId;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::inherited::Inherited;
use crate::outputs::Outputs;
use crate::serve::Server;
use crate::store::Store;

/// Under which name this service's own entries are stored: its own in PID 1's
/// catalogue.
const OWN_NAME: &str = "log";

/// The kernel's name for this boot.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("<3>{error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Box<dyn std::error::Error>> {
    let variable = |name| env::var(name).ok();
    let mut inherited = Inherited::take(
        variable("LISTEN_FDS").as_deref(),
        variable("LISTEN_FDNAMES").as_deref(),
    )?;
    let outputs = Outputs::new(inherited.one(outputs::NAME)?);
    let arguments = arguments::parse(env::args_os().skip(1))?;
    let signals = stop_signals()?;
    let store = Store::open(arguments.directory, arguments.limits, boot_id()?)?;
    let mut server = Server::new(outputs, signals, store, arguments.kernel_log)?;
    server.announce();
    server.take_up(inherited.all(ledger::NAME));
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
