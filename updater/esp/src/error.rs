//! What can go wrong.

use std::fmt;
use std::io;

/// Why a file system cannot be read or changed.
#[derive(Debug)]
pub enum Error {
    /// The device failed.
    Io {
        /// What could not be done.
        doing: &'static str,
        /// Why.
        source: io::Error,
    },
    /// There is no FAT32 file system, or one that this crate does not know.
    Unsupported(String),
    /// A file or folder is damaged.
    Damaged {
        /// Which.
        path: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// There is no room.
    Full {
        /// Bytes that were asked for.
        needed: u64,
        /// Bytes that are free.
        free: u64,
    },
    /// There is no such file or folder.
    NotFound(String),
    /// There is one of this name already.
    Exists(String),
    /// It is a folder, and a file was asked for.
    IsFolder(String),
    /// It is a file, and a folder was asked for.
    NotAFolder(String),
    /// A folder has something in it.
    NotEmpty(String),
    /// No file can have this name.
    Name(String),
    /// A file got less or more bytes than it was to have.
    Length {
        /// What was said before.
        promised: u64,
        /// What came.
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

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { doing, .. } => write!(f, "cannot {doing} the EFI system partition"),
            Self::Unsupported(why) => {
                write!(f, "the EFI system partition cannot be used: {why}")
            }
            Self::Damaged { path, what } => write!(
                f,
                "'/{path}' on the EFI system partition is damaged: {what}; check it with fsck.vfat"
            ),
            Self::Full { needed, free } => write!(
                f,
                "the EFI system partition is full: {needed} bytes are needed, {free} are free; \
                 remove files from it that are not the system's"
            ),
            Self::NotFound(path) => {
                write!(f, "there is no '/{path}' on the EFI system partition")
            }
            Self::Exists(path) => {
                write!(f, "'/{path}' is on the EFI system partition already")
            }
            Self::IsFolder(path) => {
                write!(f, "'/{path}' on the EFI system partition is a folder")
            }
            Self::NotAFolder(path) => {
                write!(f, "'/{path}' on the EFI system partition is no folder")
            }
            Self::NotEmpty(path) => write!(
                f,
                "the folder '/{path}' on the EFI system partition is not empty"
            ),
            Self::Name(name) => write!(
                f,
                "'{}' can be no name on the EFI system partition",
                name.escape_debug()
            ),
            Self::Length { promised, written } => write!(
                f,
                "a file of {promised} bytes got {written}; nothing of it was kept"
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
