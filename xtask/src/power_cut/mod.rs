//! `cargo xtask power-cut`: what a power cut at any moment of an update leaves
//! behind.
//!
//! - [`log`]: what was written and flushed, as QEMU logged it;
//! - [`medium`]: a disk's content, changed write by write;
//! - [`cuts`]: every content that a cut can leave;
//! - [`check`]: what a machine with such a disk boots, followed from the partition
//!   table ([`table`]) by way of the loader's choice ([`loader`]) to the last block
//!   of the root ([`verity`]).

pub mod check;
pub mod cuts;
pub mod loader;
pub mod log;
pub mod medium;
pub mod table;
pub mod verity;
