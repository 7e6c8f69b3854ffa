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

use std::process::ExitCode;

use arguments::Arguments;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("<3>{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let arguments = Arguments::parse(std::env::args().skip(1))?;
    let signals = shells::signals()?;
    let consoles = consoles::find(&arguments)?;
    notify_ready();
    shells::keep(&arguments, consoles, &signals)
}

/// sd_notify(3): the consoles are found, which is all that others can wait for.
fn notify_ready() {
    let Some(socket) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let sent = std::os::unix::net::UnixDatagram::unbound()
        .and_then(|from| from.send_to(b"READY=1", socket));
    if let Err(error) = sent {
        eprintln!("<4>cannot tell PID 1 that the console is ready: {error}");
    }
}
