//! What can go wrong.

use std::io;
use std::path::PathBuf;

use release::RootHash;
use slots::{Action, SlotId};

/// Why the disk cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The disk could not be opened.
    #[error("cannot open the system disk {}{}", path.display(), advice(source))]
    Open {
        /// Its node or image.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The disk failed.
    #[error("cannot {doing} {part}{}", advice(source))]
    Io {
        /// What could not be done.
        doing: &'static str,
        /// On what.
        part: String,
        /// Why.
        source: io::Error,
    },
    /// sysfs does not say which disk the root is on.
    #[error("cannot find out which disk the system was booted from: {0}")]
    BootDisk(String),
    /// There is no valid partition table.
    #[error("the system disk has no valid GUID partition table: install it again")]
    NoTable,
    /// It is no system disk.
    #[error("this is not a system disk: {0}")]
    Layout(&'static str),
    /// The ESP's file system; where the disk failed, it is [`DiskError::Io`].
    #[error(transparent)]
    Esp(esp::Error),
    /// It holds what runs, and is not changed.
    #[error("slot {0} holds the running release: it is never written")]
    Running(SlotId),
    /// It has not been read back as the release whose name it was to get.
    #[error("slot {slot} has not been read back as the root {root_hash}: it is not named")]
    Unproven {
        /// The slot.
        slot: SlotId,
        /// Whose name it was to get.
        root_hash: RootHash,
    },
    /// It is the running release's only entry.
    #[error("'{0}' is the only boot entry of the running release: it is not removed")]
    LastEntry(String),
    /// What is on the medium is not what was written.
    #[error("{0} does not read back as it was written: the disk is failing, replace it")]
    ReadBack(String),
    /// What was to be staged is not what the manifest says.
    #[error("the kernel image was not staged: {0}")]
    Stage(String),
    /// Not a valid name for a file beside the boot entries.
    #[error("'{}' is not a valid name for a boot entry", .0.escape_debug())]
    Name(String),
    /// The boot loader cannot be replaced.
    #[error("the boot loader was not replaced: {0}")]
    Loader(String),
    /// The action needs more than the disk.
    #[error("{0:?} needs the release, not only the disk")]
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
        _ => " (the kernel's log says more; replace a failing disk)",
    }
}

impl From<esp::Error> for DiskError {
    fn from(error: esp::Error) -> Self {
        match error {
            esp::Error::Io { doing, source } => Self::Io {
                doing,
                part: "the EFI system partition".to_owned(),
                source,
            },
            error => Self::Esp(error),
        }
    }
}
