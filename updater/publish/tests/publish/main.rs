//! Publishing, with made-up releases and read by tough's client, which the
//! machines use.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by a panic"
)]

mod channels;
mod keys;
mod program;
mod pruning;
mod rotation;
mod tampering;
mod world;
