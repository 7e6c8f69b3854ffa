//! What is on a Wherry disk and how its parts are named. Pure: no I/O.
//!
//! Each program that reads or writes a system disk takes the names, types and
//! formats from here: PID 1, the service `state`, the updater, the publisher.
//! `docs/disk-layout.md` is the specification.
//!
//! - [`partition`]: names, types and ids of the partitions, the slots' labels.
//! - [`entry`]: names of boot entries on the ESP, with their tries.
//! - [`booted`]: which disk, slot and state partition a running system has, from
//!   what sysfs says.
//! - [`command_line`]: which root a kernel command line opens.
//! - [`verity`], [`ext4`], [`signature`]: superblocks. Their bytes are hostile:
//!   no input makes a reader panic.

pub mod booted;
pub mod command_line;
pub mod entry;
pub mod ext4;
mod hexadecimal;
pub mod partition;
mod root_hash;
pub mod signature;
pub mod verity;
mod version;

pub use root_hash::{RootHash, RootHashError};
pub use version::{Version, VersionError};
