//! What a release's files are, against the programs whose formats they are in.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod channel;
mod index;
mod verity;
mod version;
