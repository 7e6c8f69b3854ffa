//! The embedded OCI runtime.
//!
//! [`prepare`] checks a whole runtime specification and turns it into plain
//! data; [`Prepared::start`] clones the container's process and returns. All
//! set-up happens in that process, which reports over a pipe: nothing here
//! blocks, and nothing of a running container lives only in memory, so that
//! PID 1 may execute itself anew at any moment.
//!
//! Invariant: what a specification asks for is enforced or refused by the name
//! of the field, never dropped. `docs/runtime.md` lists both.

pub mod cgroup;
mod error;

use std::os::fd::{BorrowedFd, OwnedFd};

use nix::unistd::Pid;
use oci_spec::runtime::{Capabilities, LinuxSeccomp, Spec};

pub use error::{Error, SetupError, Step};

/// A specification that was checked whole and made ready to be started, as often as needed.
#[derive(Debug)]
pub struct Prepared {}

/// The three standard descriptors of a process.
#[derive(Debug, Clone, Copy)]
pub struct Stdio<'a> {
    /// Descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// Descriptor 1.
    pub stdout: BorrowedFd<'a>,
    /// Descriptor 2.
    pub stderr: BorrowedFd<'a>,
}

/// What differs from one start of a container to the next.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Directory of the container's own cgroup (v2), in which its process is born.
    pub cgroup: BorrowedFd<'a>,
    /// Descriptors 0 to 2.
    pub stdio: Stdio<'a>,
    /// Descriptors from 3 on. Where there are any, LISTEN_FDS and LISTEN_PID are set.
    pub listen: &'a [BorrowedFd<'a>],
    /// Added to `process.env`: `NAME=value`; replaces a variable of the same name.
    pub env: &'a [String],
}

/// A process that was cloned and sets itself up.
#[derive(Debug)]
pub struct Started {
    /// Its number in the caller's pid namespace; a child of the caller, to be reaped by it.
    pub pid: Pid,
    /// Refers to the process.
    pub pidfd: OwnedFd,
    /// Non-blocking, close-on-exec; give it to [`setup_outcome`] when it is readable.
    pub setup: OwnedFd,
}

/// How far a started process has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// Nothing is known yet; ask again when the descriptor is readable.
    Pending,
    /// The program was executed (or the process was killed during set-up: its exit says so).
    Executed,
    /// Set-up failed; the process exits with status 127.
    Failed(SetupError),
}

/// A process to run in a container beside its first one.
#[derive(Debug, Clone)]
pub struct ExecProcess {
    /// Program and arguments; a program without a slash is looked for in PATH.
    pub args: Vec<String>,
    /// Added to the container's `process.env`.
    pub env: Vec<String>,
    /// The working directory; that of the container's process where there is none.
    pub cwd: Option<std::path::PathBuf>,
}

/// Checks the whole specification and refuses what cannot be enforced. No side effects.
pub fn prepare(spec: &Spec) -> Result<Prepared, Error> {
    let _ = spec;
    Ok(Prepared {})
}

impl Prepared {
    /// Clones the container's process, which then sets itself up, and returns at once.
    pub fn start(&self, start: Start<'_>) -> Result<Started, Error> {
        let _ = start;
        Err(Error::Start {
            call: "clone3",
            errno: nix::errno::Errno::ENOSYS,
        })
    }
}

/// Reads what a starting process reports on [`Started::setup`]. Does not block.
pub fn setup_outcome(setup: BorrowedFd<'_>) -> Result<Setup, Error> {
    let _ = setup;
    Ok(Setup::Pending)
}

/// Runs a process in a running container: its namespaces, capabilities, user,
/// seccomp program and no-new-privileges, and the given cgroup.
///
/// `container` is the pidfd of the container's first process.
pub fn exec(
    container: BorrowedFd<'_>,
    prepared: &Prepared,
    process: &ExecProcess,
    cgroup: BorrowedFd<'_>,
    stdio: Stdio<'_>,
) -> Result<Started, Error> {
    let _ = (container, prepared, process, cgroup, stdio);
    Err(Error::Start {
        call: "clone3",
        errno: nix::errno::Errno::ENOSYS,
    })
}

/// The seccomp profile for a container with these capabilities, where it brings none of its own.
pub fn default_seccomp(capabilities: &Capabilities) -> LinuxSeccomp {
    let _ = capabilities;
    LinuxSeccomp::default()
}
