//! The journal: the log that a Wherry machine keeps of itself.
//!
//! This crate holds the on-disk format (specified in `docs/journal.md`), its
//! one writer, and its readers. The log service writes; whoever can read the
//! directory reads, at the same time and without asking the writer:
//!
//! ```text
//! let journal = Journal::open("/state/log");
//! let query = Query { services: vec!["network".into()], tail: Some(20), ..Query::default() };
//! for entry in journal.entries(&query)? {           // Entries: Iterator<Item = Result<Entry, Error>>
//!     match entry {
//!         Ok(entry) => println!("{} {}", entry.service, entry.text()),
//!         Err(error) if error.is_damage() => eprintln!("{error}"), // the rest still comes
//!         Err(error) => return Err(error),
//!     }
//! }
//! journal.boots()?;                                 // Vec<Boot>, oldest first
//! journal.services()?;                              // Vec<Service>, by name
//! let mut follow = journal.follow(&query)?;         // the last 20, then each new one
//! while let Some(entry) = follow.next_within(None) { … } // None waits for ever, Some(d) at most d
//! ```

mod entry;
mod error;
mod query;

pub use entry::{Boot, BootId, Entry, InvalidBootId, Level, Service, UnknownLevel};
pub use error::Error;
pub use query::{BootSelector, InvalidBootSelector, Query};

/// The longest message that one entry holds, in bytes. A longer line becomes
/// several entries, all but the last marked [`Entry::unfinished`].
pub const MAX_MESSAGE: usize = 16 * 1024;
