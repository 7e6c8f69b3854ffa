//! `wherry-runtime`: runc's command line on the runtime library.
//!
//! Each command is a process of its own, and none stays beside a container.
//! What one command leaves for the next is in the container's folder (`store`),
//! and the kernel is asked for a container's status (`state`).

mod arguments;
mod bundle;
mod cgroup;
mod command;
mod console;
mod create;
mod delete;
mod descriptors;
mod foreground;
mod id;
mod log;
mod own_program;
mod process;
mod rdt;
mod setup;
mod signal;
mod start;
mod state;
mod store;
mod sys;
mod time;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::arguments::{Arguments, Command};

fn main() -> ExitCode {
    // A caller may ignore it; then the kernel would reap the processes that
    // this program waits for.
    sys::default_child_signal();
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => return usage(&error),
    };
    let failure = arguments.command.failure_code();
    match command::run(&arguments) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            log::error(&format!("{error:#}"));
            ExitCode::from(failure)
        }
    }
}

/// What the command line itself asks for, or what is wrong with it.
fn usage(error: &clap::Error) -> ExitCode {
    // If nobody reads it, nobody can be told.
    let _ = error.print();
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}

impl Command {
    /// The exit code if the command itself fails: exec's must differ from the
    /// program's.
    fn failure_code(&self) -> u8 {
        match self {
            Command::Exec(_) => 255,
            _ => 1,
        }
    }
}
