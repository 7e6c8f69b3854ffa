//! What a release's files are, against the programs whose formats they are in.

mod channel;
mod index;
mod verity;
mod version;
