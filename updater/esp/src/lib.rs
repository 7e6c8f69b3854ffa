//! FAT32, the file system of the EFI system partition, changed in an order that
//! survives a power cut.
//!
//! Written here, because the order of writes is the point: the kernel's driver
//! and the crates for FAT write tables and folders when it suits them, and a cut
//! then leaves a file of another length, a name of nothing, or two files in one
//! cluster. Here each change is made in these steps, each on the medium before
//! the next begins:
//!
//! | change | steps |
//! |---|---|
//! | a new file | data into free clusters · its chain in both tables · the parts of the long name · the short entry, in one sector: now it is there |
//! | a file's content | data · chain · the short entry again, in one sector: now it is the new content · the old chain is freed |
//! | another name | the old and the new entries in one sector, where both fit there; else the new ones as above, then the old ones' end |
//! | removal | the short entry's end, in one sector: now it is gone · the long name's end · the chain is freed |
//! | a longer folder | a zeroed cluster · its own end mark · the link to it |
//!
//! So a cut leaves each file in its old or new state, and at worst also:
//! clusters that no file uses, tables that differ, parts of a long name without
//! a file, one file under two names, a wrong count of free clusters. Firmware,
//! which renames a boot entry in no such order, may also leave a folder that was
//! about to grow without its end. All of these are found by [`FileSystem::open`]
//! and repaired by [`FileSystem::repair`], which each change calls first; they do
//! not affect readers.
//!
//! A file whose chain is broken, loops, is shared with another file's or is
//! shorter than the file's length was not left behind by us. It is not repaired
//! but reported ([`Findings::damaged`]); its clusters are not touched, no cluster
//! is reclaimed while it exists, and every other file can still be changed.
//!
//! Only a write of 512 aligned bytes is assumed to be atomic.
//!
//! Sources: *Microsoft FAT Specification* (2005), of which sections are named
//! where they matter; UEFI specification 2.10, chapter 13.3 (file system format
//! of an ESP).

mod boot_sector;
mod check;
mod directory;
mod error;
mod file;
mod file_system;
mod name;
mod repair;
mod table;

pub use check::{Damage, Findings};
pub use error::Error;
pub use file::{File, Writer};
pub use file_system::{Entry, FileSystem};

/// What a disk writes atomically, whatever the file system calls a sector.
const ATOMIC: usize = 512;
