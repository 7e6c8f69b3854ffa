//! What can go wrong with a journal.

use std::fmt;
use std::io;
use std::path::PathBuf;

use crate::query::BootSelector;

/// What went wrong, and with which file.
#[derive(Debug)]
pub enum Error {
    /// The journal's directory cannot be listed.
    List {
        /// The directory.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A segment cannot be opened or read.
    Read {
        /// The segment.
        segment: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Bytes of a segment are damaged; the entries in them are lost, and
    /// reading continues behind them.
    Damaged {
        /// The segment.
        segment: PathBuf,
        /// Where the damage starts, in bytes from the segment's start.
        offset: u64,
        /// How many bytes were skipped.
        length: u64,
    },
    /// The journal has no entry of that boot.
    NoSuchBoot(BootSelector),
    /// New entries cannot be waited for.
    Wait {
        /// The directory.
        directory: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// Another process is writing this journal.
    Locked {
        /// The journal's directory.
        directory: PathBuf,
    },
    /// Entries could not be stored.
    Write {
        /// The file or directory that the writer worked on.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
}

impl Error {
    /// Whether reading can continue: the next entries are intact.
    pub fn is_damage(&self) -> bool {
        matches!(self, Error::Damaged { .. })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::List { directory, .. } => {
                write!(f, "cannot list the journal {}", directory.display())
            }
            Error::Read { segment, .. } => write!(f, "cannot read {}", segment.display()),
            Error::Damaged {
                segment,
                offset,
                length,
            } => write!(
                f,
                "{} is damaged: {length} bytes at {offset} were skipped",
                segment.display()
            ),
            Error::NoSuchBoot(BootSelector::Back(0)) => write!(f, "the journal is empty"),
            Error::NoSuchBoot(BootSelector::Back(back)) => {
                write!(f, "the journal does not go back {back} boots")
            }
            Error::NoSuchBoot(BootSelector::Index(index)) => {
                write!(f, "the journal has no entries of boot {index}")
            }
            Error::NoSuchBoot(BootSelector::Id(id)) => {
                write!(f, "the journal has no entries of boot {id}")
            }
            Error::Wait { directory, .. } => {
                write!(f, "cannot wait for new entries in {}", directory.display())
            }
            Error::Locked { directory } => {
                write!(
                    f,
                    "another process is writing the journal {}",
                    directory.display()
                )
            }
            Error::Write { path, .. } => write!(f, "cannot write {}", path.display()),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::List { source, .. }
            | Error::Read { source, .. }
            | Error::Wait { source, .. }
            | Error::Write { source, .. } => Some(source),
            Error::Damaged { .. } | Error::NoSuchBoot(_) | Error::Locked { .. } => None,
        }
    }
}
