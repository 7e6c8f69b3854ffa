//! The embedded OCI runtime.
//!
//! [`prepare`] checks a whole runtime specification and turns it into plain
//! data; [`Prepared::start`] clones the container's process and returns. All
//! set-up happens in that process, which reports over a pipe: nothing here
//! blocks, and no part of a running container lives only in memory, so that PID
//! 1 may re-execute itself at any moment.
//!
//! Invariant: what a specification asks for is enforced or refused by the name
//! of the field, never dropped. `docs/runtime.md` lists both.
//!
//! A container starts in this order, a module for each stage: `fields` →
//! `namespaces`, `mount`, `device`, `sysctl`, `process`, `seccomp` (checks,
//! pure) → `start` (clone) → in the child: `namespaces` → `sysctl` → `rootfs` →
//! `process` → the program.

mod birth;
mod capability;
pub mod cgroup;
mod delegation;
mod device;
mod error;
mod exec;
mod fields;
pub mod hooks;
mod listener;
mod mount;
mod namespaces;
mod process;
mod report;
mod rootfs;
mod seccomp;
mod start;
mod sys;
mod sysctl;
mod terminal;
mod text;
mod user;

pub use birth::Started;
pub use error::{Error, Setup, SetupError, Step};
pub use exec::{Exec, ExecProcess, PreparedExec};
pub use fields::ENFORCED;
pub use listener::Listener;
pub use mount::known_mount_options;
pub use report::{proceed, setup_outcome};
pub use rootfs::HostPaths;
pub use seccomp::default_seccomp;
pub use start::{Lifecycle, Prepared, Start, Stdio, prepare};
