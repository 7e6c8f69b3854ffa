//! How the command fails: a sentence on standard error and one of four
//! documented exit codes.

use std::process::ExitCode;

use control::{ConnectionError, Reason};

use crate::terminal::{harmless, harmless_lines};

/// Something was tried and failed.
const FAILED: u8 = 1;
/// The command line is wrong.
const USAGE: u8 = 2;
/// PID 1 or the updater cannot be reached, or does not answer as this command
/// understands.
const UNREACHABLE: u8 = 3;
/// PID 1 or the updater refused.
const REFUSED: u8 = 4;

/// Why the command did not do what was asked.
#[derive(Debug)]
pub enum Failure {
    /// PID 1 or a service did not answer, as one sentence.
    Unreachable(String),
    /// PID 1 or a service refused, as one sentence; it changed nothing.
    Refused(String),
    /// A value on the command line is invalid.
    Usage(String),
    /// Anything else, as one sentence.
    Failed(String),
    /// The failure has been printed already, as part of the answer.
    Reported,
}

impl Failure {
    /// A failure to read or write `what`.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }

    /// Prints the sentence and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let (message, code) = match self {
            Self::Unreachable(message) => (message, UNREACHABLE),
            Self::Refused(message) => (message, REFUSED),
            Self::Usage(message) => (message, USAGE),
            Self::Failed(message) => (message, FAILED),
            Self::Reported => return ExitCode::from(FAILED),
        };
        // Names of files and services may be in it.
        eprintln!("wherry: {}", harmless_lines(message));
        ExitCode::from(code)
    }
}

/// A server's reason is untrusted text: it is shown with control characters escaped.
impl<R: Reason + 'static> From<ConnectionError<R>> for Failure {
    fn from(error: ConnectionError<R>) -> Self {
        match error {
            ConnectionError::Refused(refusal) if refusal.was_tried() => {
                Self::Failed(harmless(&refusal.to_string()))
            }
            ConnectionError::Refused(refusal) => Self::Refused(harmless(&refusal.to_string())),
            error @ (ConnectionError::Connect { .. }
            | ConnectionError::Connection { .. }
            | ConnectionError::Request(_)
            | ConnectionError::Protocol { .. }
            | ConnectionError::Closed { .. }) => Self::Unreachable(harmless(&whole(&error))),
        }
    }
}

/// An error with all its causes, in one sentence.
fn whole(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Prints what is wrong with the command line, or the help that was asked for.
pub fn usage(error: &clap::Error) -> ExitCode {
    // A closed pipe is not an error.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
