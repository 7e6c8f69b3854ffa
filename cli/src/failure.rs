//! How the command ends when it does not end well: a sentence on standard
//! error and one of four documented exit codes.

use std::process::ExitCode;

use control::{ClientError, Refusal};

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
    /// PID 1 did not answer.
    Unreachable(ClientError),
    /// PID 1 refused.
    Refused(Refusal),
    /// The updater did not answer.
    NoUpdater(updater_control::ClientError),
    /// The updater refused; it changed nothing.
    Declined(updater_control::Refusal),
    /// A value of the command line has no meaning.
    Usage(String),
    /// Anything else, as one sentence.
    Failed(String),
    /// What failed has been printed already, as part of the answer.
    Reported,
}

impl Failure {
    /// A failure to read or write `what`.
    pub fn io(what: impl std::fmt::Display, error: &std::io::Error) -> Self {
        Self::Failed(format!("{what}: {error}"))
    }

    /// Prints the sentence and gives the exit code.
    pub fn report(&self) -> ExitCode {
        let code = match self {
            Self::Unreachable(error) => {
                eprintln!("wherry: {}", whole(error));
                UNREACHABLE
            }
            Self::Refused(refusal) => {
                eprintln!("wherry: {refusal}");
                REFUSED
            }
            Self::NoUpdater(error) => {
                eprintln!("wherry: {}", whole(error));
                UNREACHABLE
            }
            Self::Declined(refusal) => {
                eprintln!(
                    "wherry: {}",
                    crate::terminal::harmless(&refusal.to_string())
                );
                REFUSED
            }
            Self::Usage(message) => {
                eprintln!("wherry: {message}");
                USAGE
            }
            Self::Failed(message) => {
                eprintln!("wherry: {message}");
                FAILED
            }
            Self::Reported => FAILED,
        };
        ExitCode::from(code)
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Refused(refusal) => Self::Refused(refusal),
            error @ (ClientError::Connect { .. }
            | ClientError::Connection { .. }
            | ClientError::Request(_)
            | ClientError::Protocol { .. }
            | ClientError::Closed { .. }) => Self::Unreachable(error),
        }
    }
}

impl From<updater_control::ClientError> for Failure {
    fn from(error: updater_control::ClientError) -> Self {
        use updater_control::{ClientError, Refusal};
        match error {
            ClientError::Refused(Refusal::Failed { message }) => {
                Self::Failed(crate::terminal::harmless(&message))
            }
            ClientError::Refused(
                refusal @ (Refusal::Malformed { .. }
                | Refusal::NotPermitted
                | Refusal::Busy { .. }
                | Refusal::Declined { .. }),
            ) => Self::Declined(refusal),
            error @ (ClientError::Connect { .. }
            | ClientError::Connection { .. }
            | ClientError::Request(_)
            | ClientError::Protocol { .. }
            | ClientError::Closed { .. }) => Self::NoUpdater(error),
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
    // A closed pipe is no reason to complain.
    let _ = error.print();
    if error.use_stderr() {
        ExitCode::from(USAGE)
    } else {
        ExitCode::SUCCESS
    }
}
