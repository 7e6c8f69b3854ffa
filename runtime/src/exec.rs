//! Another process in a running container.

use std::os::fd::BorrowedFd;
use std::path::PathBuf;

use nix::sched::CloneFlags;
use oci_spec::runtime::Process;

use crate::birth::{Birth, Started, fail};
use crate::error::{Error, Step};
use crate::listener::{self, Listener};
use crate::namespaces::{Namespaces, next_child_in};
use crate::process::{self, Image};
use crate::report::At;
use crate::start::{Prepared, Stdio, begin, execute};
use crate::sys::Strings;
use crate::text::absolute;

/// A program to run in a container as its first process runs its own.
#[derive(Debug, Clone)]
pub struct ExecProcess {
    /// Program and arguments; a program without a slash is searched in PATH.
    pub args: Vec<String>,
    /// Added to the container's `process.env`.
    pub env: Vec<String>,
    /// The working directory; by default that of the container's process.
    pub cwd: Option<PathBuf>,
}

/// Another process, checked, to be started as often as needed.
#[derive(Debug)]
pub struct PreparedExec<'a> {
    namespaces: &'a Namespaces,
    listener: Option<&'a listener::Plan>,
    process: process::Plan,
}

/// What differs from one start of such a process to the next.
#[derive(Debug, Clone, Copy)]
pub struct Exec<'a> {
    /// Directory of the cgroup (v2) in which it is born; the caller's without one.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Descriptors 0 to 2. With a terminal, it takes their place.
    pub stdio: Stdio<'a>,
    /// Descriptors from 3 on.
    pub passed: &'a [BorrowedFd<'a>],
    /// A connected Unix stream socket, to which the terminal's master is sent.
    pub console: Option<BorrowedFd<'a>>,
    /// Who gets the seccomp listener, if the profile has one.
    pub listener: Option<Listener<'a>>,
    /// The process stays in the caller's session keyring.
    pub keep_keyring: bool,
}

impl Prepared {
    /// Prepares another program with the user, capabilities, limits, seccomp
    /// program and no-new-privileges of the container's first process.
    pub fn exec(&self, process: &ExecProcess) -> Result<PreparedExec<'_>, Error> {
        let mut plan = self.process.clone();
        plan.terminal = None;
        plan.args.clone_from(&process.args);
        plan.env.extend_from_slice(&process.env);
        if let Some(path) = &process.cwd {
            plan.cwd = absolute("process.cwd", path)?;
        }
        Image::new(&plan.args, plan.env.iter())?;
        Ok(PreparedExec {
            namespaces: &self.namespaces,
            listener: self.listener.as_ref(),
            process: plan,
        })
    }

    /// Prepares a process as the specification describes one, with the
    /// container's seccomp profile.
    pub fn exec_process(&self, process: &Process) -> Result<PreparedExec<'_>, Error> {
        Ok(PreparedExec {
            namespaces: &self.namespaces,
            listener: self.listener.as_ref(),
            process: process::Plan::new(process, self.process.common.clone())?,
        })
    }
}

impl PreparedExec<'_> {
    /// As [`Prepared::ungranted_capabilities`].
    pub fn ungranted_capabilities(&self) -> Vec<String> {
        self.process.ungranted_capabilities()
    }

    /// Runs the process in a running container: its namespaces and the given
    /// cgroup.
    ///
    /// `container` is the pidfd of the container's first process, which
    /// [`crate::setup_outcome`] must have reported as created or executed:
    /// before that it still has the host's root. In a pid namespace of its own
    /// the container's other processes see the new one from its birth; it is
    /// born undumpable, so that they can reach neither its memory nor, by
    /// `/proc/…/exe`, the caller's program.
    pub fn start(&self, container: BorrowedFd<'_>, exec: Exec<'_>) -> Result<Started, Error> {
        let image = Image::new(&self.process.args, self.process.env.iter())?;
        let mut args = Strings::new(&image.args);
        let mut env = Strings::new(&image.env);
        let program = [exec.stdio.stdin, exec.stdio.stdout, exec.stdio.stderr]
            .into_iter()
            .chain(exec.passed.iter().copied());
        let mut birth = Birth::new(0, exec.cgroup, program)?;
        let container = birth.keep(container);
        let console = self
            .process
            .console(exec.console)?
            .map(|console| birth.keep(console));
        let mut listener = listener::ready(self.listener, exec.listener, "running", &mut birth)?;
        let between =
            self.namespaces.user.is_some() || !self.namespaces.shares(CloneFlags::CLONE_NEWPID);

        let child = |report: BorrowedFd<'static>| {
            let mut set_up = || {
                begin(exec.keep_keyring)?;
                if !between {
                    self.process.set_oom_score()?;
                }
                let mut progress = self.process.begin()?;
                self.namespaces.join_of(container.fd())?;
                self.process.enter(&mut progress, &image, &mut env)?;
                if let Some((terminal, console)) = self.process.terminal.zip(console) {
                    terminal.open(console.fd(), self.process.uid, false)?;
                }
                self.process.confine(&progress, listener.as_mut())
            };
            let done = set_up();
            match done {
                Ok(()) => fail(report, &execute(&image, &mut args, &mut env)),
                Err(failure) => fail(report, &failure),
            }
        };
        let before = || {
            self.process.set_oom_score()?;
            self.process.raise_limits()?;
            if self.namespaces.shares(CloneFlags::CLONE_NEWPID) {
                return Ok(());
            }
            next_child_in(container.fd()).at(Step::JoinNamespace, b"of the container's processes")
        };
        let started = if between {
            birth.between(before, None::<fn(_) -> _>, child)
        } else {
            birth.direct(child)
        }?;
        if let Some(listener) = &listener {
            listener.set_pid(started.pid);
        }
        Ok(started)
    }
}
