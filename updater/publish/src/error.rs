//! What can go wrong, for a person.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use release::ChannelError;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something was not done.
#[derive(Debug)]
pub enum Error {
    /// A file or folder could not be read, written, made.
    File {
        /// What was tried: `read`, `write`, …
        step: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A key's file is none, or a key is missing.
    Key {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The repository's metadata is not what the pinned root vouches for.
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file of a release is not what it has to be.
    Release {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The channel would not be taken by machines.
    Channel {
        /// Its name.
        channel: String,
        /// Why.
        source: ChannelError,
    },
    /// What was asked for is not done.
    Refused(String),
}

impl Error {
    /// For `map_err`.
    pub(crate) fn file(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::File { step, path, source }
    }

    pub(crate) fn key(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Key {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn metadata(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Metadata {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }

    pub(crate) fn release(path: &Path, problem: impl fmt::Display) -> Self {
        Self::Release {
            path: path.to_owned(),
            problem: problem.to_string(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { step, path, .. } => write!(f, "cannot {step} {}", path.display()),
            Self::Key { path, problem }
            | Self::Metadata { path, problem }
            | Self::Release { path, problem } => write!(f, "{}: {problem}", path.display()),
            Self::Channel { channel, .. } => write!(f, "channel {channel} cannot be published"),
            Self::Refused(why) => f.write_str(why),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::File { source, .. } => Some(source),
            Self::Channel { source, .. } => Some(source),
            Self::Key { .. } | Self::Metadata { .. } | Self::Release { .. } | Self::Refused(_) => {
                None
            }
        }
    }
}
