//! Whole goals on small disks: with the power going at every write, and with
//! disks that fail; and on the image that was built.
#![allow(clippy::unwrap_used, clippy::expect_used)] // All of it is a test.

mod built_image;
mod devices;
mod disk;
mod faults;
#[path = "../../../esp/tests/file_system/format.rs"]
mod format;
mod goals;
mod power_cuts;
mod release;
