//! A Wherry machine in QEMU.
//!
//! One crate holds the one QEMU command line that `cargo xtask run`, the
//! benchmarks and the integration tests use, so that what is tested is what is
//! shown. The program `machine` is how `xtask` uses it. From the outside in:
//!
//! - [`Build`]: the folder with everything a build made (image, kernel, tools);
//! - [`Tools`]: the tools tree, and how one of its programs runs on this host;
//! - [`Qemu`]: a description of a virtual machine, turned into a [`Command`];
//! - [`Machine`]: one that runs, driven over its serial console and QMP;
//! - [`Snapshot`]: a booted machine from which others are restored without a boot;
//! - [`Guest`]: a machine with Debian instead of Wherry, driven by scripts;
//! - [`Server`]: a web server that machines reach, and that can misbehave;
//! - [`Fault`]: what is wrong with a machine's disk.
//!
//! ```no_run
//! # fn main() -> Result<(), machine::Error> {
//! use machine::{Build, Machine};
//! use std::time::Duration;
//!
//! let build = Build::from_env()?;
//! let mut machine = Machine::builder(&build, "boots").append("wherry.disable=network").start()?;
//! machine.wait_for("wherry: ready", Duration::from_secs(60))?;
//! let status = machine.shell("wherry status --json", Duration::from_secs(10))?;
//! assert_eq!(status.exit, 0);
//! # Ok(())
//! # }
//! ```
//!
//! A machine never outlives its [`Machine`]: it is killed when that is dropped,
//! when its hard limit has passed, and when the thread that started it ends.
//!
//! [`Command`]: std::process::Command

mod build;
mod disk;
mod error;
mod guest;
mod monitor;
mod qemu;
mod running;
mod server;
mod snapshot;
mod storage;
mod tools;

pub use build::Build;
pub use disk::copy_sparse;
pub use error::Error;
pub use guest::{Guest, ScriptOutput};
pub use qemu::{Boot, Console, Qemu, acceleration};
pub use running::{Machine, MachineBuilder, ShellOutput};
pub use server::{Behaviour, Served, Server};
pub use snapshot::Snapshot;
pub use storage::{Fault, Operation, Storage};
pub use tools::Tools;
