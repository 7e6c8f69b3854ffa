//! What can go wrong.

use std::fmt;
use std::io;
use std::path::PathBuf;

use release::RootHash;
use slots::{Action, SlotId};

/// Why the disk cannot be read or changed.
#[derive(Debug)]
pub enum DiskError {
    /// The disk could not be opened.
    Open {
        /// Its node or image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk failed.
    Io {
        /// What could not be done.
        doing: &'static str,
        /// On what.
        part: String,
        /// Why.
        source: io::Error,
    },
    /// sysfs does not say which disk the root is on.
    BootDisk(String),
    /// There is no valid partition table.
    NoTable,
    /// It is no system disk.
    Layout(&'static str),
    /// The ESP's file system.
    Esp(esp::Error),
    /// It holds what runs, and is not changed.
    Running(SlotId),
    /// It has not been read back as what it is to be named.
    Unproven {
        /// The slot.
        slot: SlotId,
        /// Whose name it was to get.
        root_hash: RootHash,
    },
    /// The entry is the only one of what runs.
    LastEntry(String),
    /// What is on the medium is not what was written.
    ReadBack(String),
    /// What was to be staged is not what the manifest says.
    Stage(String),
    /// No name of a file beside the boot entries.
    Name(String),
    /// The boot loader cannot be replaced.
    Loader(String),
    /// The action needs more than the disk.
    NeedsRelease(Action),
}

impl DiskError {
    /// For `map_err`.
    pub(crate) fn io(
        doing: &'static str,
        part: impl Into<String>,
    ) -> impl FnOnce(io::Error) -> Self {
        let part = part.into();
        move |source| Self::Io {
            doing,
            part,
            source,
        }
    }
}

/// What to do about a disk that fails.
fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
            " (the disk is write-protected: remove the protection)"
        }
        io::ErrorKind::NotFound => "",
        _ => " (the kernel's log says more; a disk that fails is to be replaced)",
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open { path, source } => {
                write!(f, "cannot open the system disk {}", path.display())?;
                f.write_str(advice(source))
            }
            Self::Io {
                doing,
                part,
                source,
            } => {
                write!(f, "cannot {doing} {part}")?;
                f.write_str(advice(source))
            }
            Self::BootDisk(why) => write!(
                f,
                "it cannot be told which disk the system was booted from: {why}"
            ),
            Self::NoTable => {
                f.write_str("the system disk has no valid GUID partition table: install it anew")
            }
            Self::Layout(why) => write!(f, "this is no system disk: {why}"),
            Self::Esp(error) => {
                fmt::Display::fmt(error, f)?;
                match error {
                    esp::Error::Io { source, .. } => f.write_str(advice(source)),
                    _ => Ok(()),
                }
            }
            Self::Running(slot) => write!(
                f,
                "slot {slot} holds the running release: it is never written"
            ),
            Self::Unproven { slot, root_hash } => write!(
                f,
                "slot {slot} has not been read back as the root {root_hash}: it does not get its name"
            ),
            Self::LastEntry(file) => write!(
                f,
                "'{file}' is the only boot entry of the running release: it is not removed"
            ),
            Self::ReadBack(what) => write!(
                f,
                "{what} does not read back as it was written: the disk is failing, replace it"
            ),
            Self::Stage(why) => write!(f, "the kernel image was not staged: {why}"),
            Self::Name(name) => write!(f, "'{}' is no name for a boot entry", name.escape_debug()),
            Self::Loader(why) => write!(f, "the boot loader was not replaced: {why}"),
            Self::NeedsRelease(action) => {
                write!(f, "{action:?} needs the release and not the disk alone")
            }
        }
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Open { source, .. } | Self::Io { source, .. } => Some(source),
            Self::Esp(error) => std::error::Error::source(error),
            _ => None,
        }
    }
}

impl From<esp::Error> for DiskError {
    fn from(error: esp::Error) -> Self {
        Self::Esp(error)
    }
}
