//! The file system against a model, against other implementations, and against
//! the power.
#![allow(clippy::unwrap_used, clippy::expect_used)] // All of it is a test.

mod damage;
mod format;
mod image;
mod model;
mod power_cuts;
