//! A further process in a running container.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::sched::CloneFlags;

use crate::error::Error;
use crate::mount::absolute;
use crate::process::{self, Image};
use crate::start::{
    Descriptors, Prepared, Started, Stdio, begin, execute, fail, failed, report_pipe, spawn_in,
};
use crate::sys::{self, Strings};

/// A process to run in a container beside its first one.
#[derive(Debug, Clone)]
pub struct ExecProcess {
    /// Program and arguments; a program without a slash is looked for in PATH.
    pub args: Vec<String>,
    /// Added to the container's `process.env`.
    pub env: Vec<String>,
    /// The working directory; that of the container's process where there is none.
    pub cwd: Option<PathBuf>,
}

/// Runs a process in a running container: its namespaces, capabilities, user,
/// limits, seccomp program and no-new-privileges, and the given cgroup.
///
/// `container` is the pidfd of the container's first process, of which
/// [`crate::setup_outcome`] must have said that its program was executed: until
/// then it still has the host's root. In a pid namespace
/// of its own the container's other processes see the new one from its birth; it
/// is born undumpable, so that they get neither at its memory nor, by
/// `/proc/…/exe`, at the caller's program.
pub fn exec(
    container: BorrowedFd<'_>,
    prepared: &Prepared,
    process: &ExecProcess,
    cgroup: BorrowedFd<'_>,
    stdio: Stdio<'_>,
) -> Result<Started, Error> {
    let image = Image::new(
        &process.args,
        prepared.process.env.iter().chain(&process.env),
    )?;
    let mut args = Strings::new(&image.args);
    let mut env = Strings::new(&image.env);
    let cwd = match &process.cwd {
        Some(path) => absolute("process.cwd", path)?,
        None => prepared.process.cwd.clone(),
    };
    let sources = [stdio.stdin, stdio.stdout, stdio.stderr].into_iter();
    let mut descriptors = Descriptors::new(sources);
    let (setup, report) = report_pipe()?;

    let mut child = |report, container| {
        let done = begin()
            .and_then(|()| prepared.process.set_oom_score())
            .and_then(|()| prepared.namespaces.join_of(container))
            .and_then(|()| process::Plan::enter_directory(&cwd))
            .and_then(|()| prepared.process.confine());
        match done {
            Ok(()) => fail(report, &execute(&image, &mut args, &mut env)),
            Err(failure) => fail(report, &failure),
        }
    };
    let (pid, pidfd) = if prepared.namespaces.shares(CloneFlags::CLONE_NEWPID) {
        sys::spawn(0, Some(cgroup), || {
            match descriptors.place([report.as_fd(), container]) {
                Ok([report, container]) => child(report, container),
                Err(failure) => fail(report.as_fd(), &failure),
            }
        })
        .map_err(failed("clone3"))?
    } else {
        spawn_in(
            container,
            0,
            cgroup,
            &mut descriptors,
            report.as_fd(),
            child,
        )?
    };
    Ok(Started { pid, pidfd, setup })
}
