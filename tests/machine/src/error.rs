//! What can go wrong with a machine.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// Why a machine could not be started or did not do what was waited for.
#[derive(Debug)]
pub enum Error {
    /// Something that a build makes is not there.
    Missing {
        /// What it is.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
    },
    /// A file or process could not be used.
    Io {
        /// What was being done.
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The console did not show what was waited for.
    Silent {
        /// The text that was waited for.
        pattern: String,
        /// Why waiting ended.
        because: String,
        /// The console's last lines.
        tail: String,
        /// Where the whole console is saved.
        log: PathBuf,
    },
    /// QEMU's monitor refused a command or could not be understood.
    Monitor {
        /// The QMP command.
        command: String,
        /// What came back.
        answer: String,
    },
}

impl Error {
    pub(crate) fn io(
        step: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { step, path, source }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { what, path } => write!(
                f,
                "{what} is missing at {}: run `cargo xtask image` first",
                path.display()
            ),
            Self::Io { step, path, .. } => write!(f, "cannot {step} {}", path.display()),
            Self::Silent {
                pattern,
                because,
                tail,
                log,
            } => write!(
                f,
                "waited for {pattern:?} on the console: {because}\n--- last lines of {} ---\n{tail}\n---",
                log.display()
            ),
            Self::Monitor { command, answer } => {
                write!(f, "QEMU's monitor answered {command}: {answer}")
            }
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
