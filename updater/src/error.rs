//! Why something was not done.

use std::io;
use std::path::PathBuf;

use fetch::FetchError;
use slots::{Action, Refusal};
use system_disk::DiskError;

/// Why something was not done. What ran before is what boots.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk is as it is, and this cannot be done with it.
    #[error("{0}")]
    Refused(Refusal),
    /// The policy takes nothing, for this reason.
    #[error("{0}")]
    Declined(String),
    /// The disk could not be read or changed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The release could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// An action was done and did not last.
    #[error(
        "the disk does not keep what is written to it ({action:?} again and again): it is \
         probably failing, so replace it"
    )]
    Stuck {
        /// The action.
        action: Action,
    },
    /// What is wanted has to be fetched, and no repository is at hand.
    #[error("part of the release has to be fetched again: `wherry update apply` does it")]
    NoSource,
    /// A file could not be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        /// What was done.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// What is in a file's place is none that can be used; the error names it.
    #[error("cannot {doing}")]
    Unusable {
        /// What was done.
        doing: &'static str,
        /// Which file, and why not.
        #[source]
        error: Box<config::Error>,
    },
    /// A setting is missing or wrong; what to do is in the sentence.
    #[error("{0}")]
    Setting(String),
}

impl Error {
    /// Whether it was not even tried: policy, settings or the disk forbid it.
    pub fn is_declined(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Declined(_) | Self::Setting(_) | Self::NoSource => true,
            Self::Disk(_) | Self::Fetch(_) | Self::Stuck { .. } | Self::File { .. } => false,
            Self::Unusable { .. } => false,
        }
    }

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
