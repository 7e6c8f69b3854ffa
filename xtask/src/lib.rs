//! The stages of `cargo xtask`, in the order in which a build goes through them.

pub mod apt;
pub mod fingerprint;
pub mod process;
pub mod progress;
pub mod tools;
pub mod workspace;
