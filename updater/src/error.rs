//! Why something was not done.

use std::fmt;
use std::io;
use std::path::PathBuf;

use fetch::FetchError;
use slots::{Action, Refusal};
use system_disk::DiskError;

/// Why something was not done. What ran before is what boots.
#[derive(Debug)]
pub enum Error {
    /// The disk is as it is, and this cannot be done with it.
    Refused(Refusal),
    /// The policy takes nothing, for this reason.
    Declined(String),
    /// The disk could not be read or changed.
    Disk(DiskError),
    /// The release could not be fetched.
    Fetch(FetchError),
    /// An action was done and did not last.
    Stuck {
        /// The action.
        action: Action,
    },
    /// What is wanted has to be fetched, and no repository is at hand.
    NoSource,
    /// A file could not be read or written.
    File {
        /// What was done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A setting is missing or wrong; what to do is in the sentence.
    Setting(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Declined(why) | Self::Setting(why) => f.write_str(why),
            Self::Disk(error) => error.fmt(f),
            Self::Fetch(error) => error.fmt(f),
            Self::Stuck { action } => write!(
                f,
                "the disk does not keep what is written to it ({action:?} again and again): it is \
                 probably failing, so replace it"
            ),
            Self::NoSource => f.write_str(
                "part of the release has to be fetched anew: `wherry update apply` does it",
            ),
            Self::File { doing, path, .. } => write!(f, "cannot {doing} {}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Disk(error) => error.source(),
            Self::Fetch(error) => error.source(),
            Self::File { source, .. } => Some(source),
            Self::Refused(_)
            | Self::Declined(_)
            | Self::Stuck { .. }
            | Self::NoSource
            | Self::Setting(_) => None,
        }
    }
}

impl Error {
    /// With all that is behind it, in one sentence.
    pub fn sentence(&self) -> String {
        let mut sentence = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(error) = source {
            sentence = format!("{sentence}: {error}");
            source = error.source();
        }
        sentence
    }
}

impl From<DiskError> for Error {
    fn from(error: DiskError) -> Self {
        Self::Disk(error)
    }
}

impl From<FetchError> for Error {
    fn from(error: FetchError) -> Self {
        Self::Fetch(error)
    }
}
