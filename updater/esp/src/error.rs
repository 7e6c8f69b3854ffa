//! What can go wrong.

use std::io;

/// Why a file system cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The device failed.
    #[error("cannot {doing} the EFI system partition")]
    Io {
        /// What could not be done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is no FAT32 file system, or one that this crate does not know.
    #[error("the EFI system partition cannot be used: {0}")]
    Unsupported(String),
    /// A file or folder is damaged.
    #[error("'/{path}' on the EFI system partition is damaged: {what}; check it with fsck.vfat")]
    Damaged {
        /// Which.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no room.
    #[error(
        "the EFI system partition is full: {needed} bytes are needed, {free} are free; remove \
         files from it that are not the system's"
    )]
    Full {
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// There is no such file or folder.
    #[error("there is no '/{0}' on the EFI system partition")]
    NotFound(String),
    /// This name exists already.
    #[error("'/{0}' is on the EFI system partition already")]
    Exists(String),
    /// It is a folder, and a file was asked for.
    #[error("'/{0}' on the EFI system partition is a folder")]
    IsFolder(String),
    /// It is a file, and a folder was asked for.
    #[error("'/{0}' on the EFI system partition is not a folder")]
    NotAFolder(String),
    /// A folder has something in it.
    #[error("the folder '/{0}' on the EFI system partition is not empty")]
    NotEmpty(String),
    /// No file can have this name.
    #[error("'{}' cannot be a name on the EFI system partition", .0.escape_debug())]
    Name(String),
    /// A file got less or more bytes than it was to have.
    #[error("a file of {promised} bytes got {written}; nothing of it was kept")]
    Length {
        /// The length that was announced.
        promised: u64,
        /// The length that was written.
        written: u64,
    },
}

impl Error {
    /// For `map_err`.
    pub(crate) fn io(doing: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, source }
    }

    pub(crate) fn damaged(path: &str, what: &'static str) -> Self {
        Self::Damaged {
            path: path.to_owned(),
            what,
        }
    }
}
