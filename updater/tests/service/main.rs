//! The service itself: the real program with a disk image, a repository in a
//! folder, and a PID 1 that speaks the control protocol.
#![allow(clippy::unwrap_used, clippy::expect_used)] // All of it is a test.

mod boots;
#[path = "../../disk/tests/system_disk/disk.rs"]
#[allow(dead_code)] // The tests of the disk use more of it.
mod disk;
mod fleet_lock;
#[path = "../../esp/tests/file_system/format.rs"]
mod format;
mod one_shot;
#[path = "../../disk/tests/system_disk/release.rs"]
#[allow(dead_code)] // As above.
mod release;
mod requests;
mod world;
