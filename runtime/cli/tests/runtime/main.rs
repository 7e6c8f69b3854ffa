//! The behaviour of the real `wherry-runtime`: containers with this machine's
//! programs. These tests need root; without it they print that they are
//! skipped.

#![allow(clippy::unwrap_used)]

mod concurrency;
mod crash;
mod errors;
mod exec;
mod foreground;
mod harness;
mod hooks;
mod lifecycle;
mod program;
mod sys;
mod terminal;
