//! What can go wrong, and where it went wrong.

use std::io;
use std::path::PathBuf;

use http_client::{Failure, SettingError};

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// A setting cannot be used.
    #[error("{what}: {why}")]
    Setting {
        /// Which one, with its value.
        what: String,
        /// Why not.
        why: String,
    },
    /// The trust anchor is not self-signed root metadata.
    #[error(
        "the trust anchor for updates (update-root.json) cannot be used: {0}; put the \
         repository's root metadata there"
    )]
    Anchor(String),
    /// The folder for metadata cannot be used.
    #[error("metadata cannot be kept in {}", path.display())]
    Datastore {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// No repository gave metadata that can be trusted. One reason an address.
    #[error("no repository gave metadata that can be trusted{}", list(.0))]
    Metadata(Vec<Failure>),
    /// The channel is missing, does not match its signature, or cannot be used.
    #[error("channel '{name}': {why}")]
    Channel {
        /// Its name.
        name: String,
        /// Why.
        why: String,
    },
    /// No mirror gave a file of the release as its manifest describes it. One
    /// reason a mirror.
    #[error("no mirror gave {path} as it was signed{}", list(failures))]
    Artifact {
        /// The file.
        path: String,
        /// The last failure of each mirror.
        failures: Vec<Failure>,
    },
    /// The signed files of the release do not fit together: no mirror can help.
    #[error(
        "{path} is as it was signed, but {why}: the release is broken and has to be published \
         again"
    )]
    Release {
        /// The file.
        path: String,
        /// What is wrong.
        why: String,
    },
    /// The slot or the sink could not be read or written.
    #[error("{doing}")]
    Device {
        /// What was being done.
        doing: &'static str,
        /// Why it failed.
        source: io::Error,
    },
    /// The release does not fit the slot.
    #[error("the release needs {needs} bytes of {what}, and there are {has}")]
    Space {
        /// Which part of the slot.
        what: &'static str,
        /// Bytes that it has.
        has: u64,
        /// Bytes that are needed.
        needs: u64,
    },
}

impl From<SettingError> for FetchError {
    fn from(SettingError { what, why }: SettingError) -> Self {
        Self::Setting {
            what: what.to_owned(),
            why,
        }
    }
}

/// The failures behind a colon.
fn list(failures: &[Failure]) -> String {
    let mut list = String::new();
    for failure in failures {
        list += if list.is_empty() { ": " } else { "; " };
        list += &failure.to_string();
    }
    list
}
