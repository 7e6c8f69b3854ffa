//! The A/B updater.
//!
//! `updater run` is the system service; the other commands do the same once, on a
//! disk or an image of one. The flow of an update: [`source`] (where from, which)
//! → [`install`] (the way to a goal, step by step) → restart → [`health`] →
//! blessed, or the boot loader falls back. [`lifecycle`] decides which of that is
//! done when; [`daemon`] waits and performs. `docs/updates.md` is the manual page.

mod arguments;
mod daemon;
mod error;
mod event;
mod health;
mod install;
mod lock_client;
mod metered;
mod one_shot;
mod pid1;
mod pstore;
mod record;
mod say;
mod settings;
mod source;
mod wire;
mod worker;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;

/// Threads that wait for files, of each runtime: the container has room for few.
const BLOCKING_THREADS: usize = 4;

/// Runs the program with its command line, the program's name first.
pub fn run(command_line: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(command_line) {
        Ok(arguments) => arguments,
        Err(error) => {
            // A reader that has closed the pipe has read enough.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            let problem = format!("cannot start the runtime: {error}");
            say::event(say::Level::Error, "not-started", &[], &problem);
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match arguments.command {
            Command::Run(run) => daemon::run(run).await,
            Command::Install(install) => one_shot::install(&install).await,
            Command::Bless(on) => one_shot::bless(&on).await,
            Command::Rollback(on) => one_shot::rollback(&on).await,
            Command::Look(on) => one_shot::look(&on),
        }
    })
}
