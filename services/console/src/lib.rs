//! The console service: a shell on each of the machine's consoles.
//!
//! ```text
//! arguments → consoles → (ready) → each console: quiet → session ⇄ resting
//! ```
//! A console is quiet until the machine has settled, so that the prompt comes
//! after what PID 1 and the kernel print while booting and the shells do not
//! take time from the services that start. Whoever presses a key, or waits for
//! [`settle::LIMIT`], has a shell before that.
//!
//! One thread, one poll loop. `docs/console.md` is the manual page.

mod arguments;
mod consoles;
mod greeting;
mod session;
mod settle;
mod shells;
mod sys;
mod terminal;

use std::ffi::OsString;
use std::process::ExitCode;

use arguments::Arguments;
use service::{Level, Notify};

/// Runs the program: `arguments` begin with its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments = match service::words(arguments).and_then(Arguments::parse) {
        Ok(arguments) => arguments,
        Err(mistake) => return service::wrong_usage(&mistake, arguments::USAGE),
    };
    match keep_shells(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            service::say(Level::Error, &message);
            ExitCode::FAILURE
        }
    }
}

fn keep_shells(arguments: &Arguments) -> Result<(), String> {
    let signals = shells::signals()?;
    let consoles = consoles::find(arguments)?;
    // The consoles are found, which is all that others can wait for.
    Notify::from_environment().ready();
    shells::keep(arguments, consoles, &signals)
}
