//! What can go wrong, for a person.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use release::ChannelError;

/// A result of this crate.
pub type Result<T> = std::result::Result<T, Error>;

/// Why something failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder could not be read, written, made.
    #[error("cannot {step} {}", path.display())]
    File {
        /// What was attempted: `read`, `write`, …
        step: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A key's file is invalid, or a key is missing.
    #[error("{}: {problem}", path.display())]
    Key {
        /// The file or folder.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The repository's metadata is not what the pinned root vouches for.
    #[error("{}: {problem}", path.display())]
    Metadata {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A file of a release is not what it has to be.
    #[error("{}: {problem}", path.display())]
    Release {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Machines would refuse the channel.
    #[error("channel {channel} cannot be published")]
    Channel {
        /// Its name.
        channel: String,
        /// Why.
        source: ChannelError,
    },
    /// What was asked for is not done.
    #[error("{0}")]
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
