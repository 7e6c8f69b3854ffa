//! The partition table of a disk, written in an order that survives a power
//! cut.
//!
//! [`gpt`] reads and describes a GUID partition table, [`rewrite`] writes a
//! changed one to the disk: at every moment one copy is valid and, if there is
//! a gap before the first partition, the primary is.

pub mod gpt;
pub mod rewrite;

pub use gpt::{Entry, Sectors, Table};
pub use rewrite::rewrite;
