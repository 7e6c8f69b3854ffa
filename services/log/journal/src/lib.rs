//! The journal: the log that a Wherry machine keeps of itself.
//!
//! This crate holds the on-disk format (specified in `docs/journal.md`), its
//! one writer, and its readers. The log service writes; whoever can read the
//! directory reads, at the same time and without asking the writer:
//!
//! ```no_run
//! use journal::{Journal, Query};
//!
//! # fn main() -> Result<(), journal::Error> {
//! let journal = Journal::open("/state/log");
//! let query = Query {
//!     services: vec!["network".into()],
//!     tail: Some(20),
//!     ..Query::default()
//! };
//! for entry in journal.entries(&query)? {
//!     match entry {
//!         Ok(entry) => println!("{} {}", entry.service, entry.text()),
//!         // The entries behind the damage still come.
//!         Err(error) if error.is_damage() => eprintln!("{error}"),
//!         Err(error) => return Err(error),
//!     }
//! }
//! // The last 20, then each new one as it comes.
//! let mut follow = journal.follow(&query)?;
//! while let Some(entry) = follow.next_within(None) {
//!     println!("{}", entry?.text());
//! }
//! # Ok(())
//! # }
//! ```

mod entry;
mod error;
mod follow;
mod format;
mod index;
mod query;
mod reader;
mod retention;
mod segment;
mod space;
mod thinning;
mod writer;

pub use entry::{Boot, BootId, Entry, InvalidBootId, Service};
pub use error::Error;
pub use follow::Follow;
pub use format::Record;
pub use log_line::{Level, UnknownLevel};
pub use query::{BootSelector, InvalidBootSelector, Query};
pub use reader::{Entries, Journal};
pub use space::Limits;
pub use writer::{Dropped, KERNEL_SEQUENCE, Resumed, Writer};

/// The longest message of one entry, in bytes. A longer line becomes several
/// entries, all but the last marked [`Entry::unfinished`].
pub const MAX_MESSAGE: usize = 16 * 1024;

#[cfg(test)]
mod damage_tests;
#[cfg(test)]
mod journal_tests;
