//! How a configuration file of ours is read: TOML to types, with every error in
//! one form.
//!
//! ```text
//! text ── toml ──▶ the file's own types ── check ──▶ what the program works with
//!           │            │                   │
//!           └────────────┴───────────────────┴──▶ Error: file:line:column, key, found, expected
//! ```
//!
//! [`parse`] is pure and does all three steps. A file's types derive
//! `Deserialize` and know nothing of positions: where a key stands is looked up
//! in the text when there is an error, so a new key needs no extra work. What a
//! type cannot say (two keys that exclude each other) is a [`Fault`] of the
//! check, which names the key by its path. What is written in the same words in
//! every file (durations, sizes, addresses, patterns) is in [`value`].
//!
//! [`last_good`] decides which configuration is used when the file has an error.

mod error;
mod file;
mod key;
pub mod last_good;
mod locate;
pub mod value;

pub use error::{Error, Fault, Position, Problem};
pub use file::{read, read_bytes};
pub use key::{Key, Step};
pub use locate::{locate, parse};
