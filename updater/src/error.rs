//! Why something failed.

use std::io;
use std::path::PathBuf;

use fetch::FetchError;
use slots::{Action, Refusal};
use system_disk::DiskError;

/// Why something failed. The release that ran before still boots.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk's state does not allow it.
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
    /// An action was performed, but the disk did not keep it.
    #[error(
        "the disk does not keep what is written to it ({action:?} again and again): it is \
         probably failing, so replace it"
    )]
    Stuck {
        /// The action.
        action: Action,
    },
    /// Part of the release must be fetched, and no repository is configured.
    #[error("part of the release must be fetched again: run `wherry update apply`")]
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
    /// Whether it was not tried: policy, settings or the disk forbid it.
    pub fn is_declined(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Declined(_) | Self::Setting(_) | Self::NoSource => true,
            Self::Disk(_) | Self::Fetch(_) | Self::Stuck { .. } | Self::File { .. } => false,
            Self::Unusable { .. } => false,
        }
    }

    /// The error and its causes, in one sentence.
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
