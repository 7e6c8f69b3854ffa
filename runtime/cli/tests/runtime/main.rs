//! The real `wherry-runtime`, by its behaviour: containers with this machine's
//! programs. They need root, and are passed over, saying so, without it.

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
