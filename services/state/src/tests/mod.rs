//! Tests with real files, loop devices and e2fsprogs.

mod image;
mod partition;
