//! Another process in a running container.

use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;

use nix::fcntl::{OFlag, open};
use nix::sched::CloneFlags;
use nix::sys::stat::Mode;
use oci_spec::runtime::Process;

use crate::birth::{Birth, Kept, Started, fail, failed};
use crate::cgroup;
use crate::error::Error;
use crate::listener::{self, Listener};
use crate::namespaces::Namespaces;
use crate::process::{self, Image};
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
    /// the container's other processes see the new one from its birth: so an
    /// intermediate process joins the mount namespace and all others that it can
    /// before that, and the new one is born undumpable, so that they can reach
    /// neither the host's files, nor its memory, nor, by `/proc/…/exe`, the
    /// caller's program.
    ///
    /// It is born in the given cgroup or, where the container keeps its processes
    /// in inner ones, in that of its first process.
    pub fn start(&self, container: BorrowedFd<'_>, exec: Exec<'_>) -> Result<Started, Error> {
        let image = Image::new(&self.process.args, self.process.env.iter())?;
        let mut args = Strings::new(&image.args);
        let mut env = Strings::new(&image.env);
        let program = [exec.stdio.stdin, exec.stdio.stdout, exec.stdio.stderr]
            .into_iter()
            .chain(exec.passed.iter().copied());
        let inner = exec
            .cgroup
            .map(|cgroup| cgroup::inner_cgroup(cgroup, container))
            .transpose()
            .map_err(failed("finding the container's inner cgroup"))?
            .flatten();
        let cgroup = inner.as_ref().map(AsFd::as_fd).or(exec.cgroup);
        let mut birth = Birth::new(0, cgroup, program)?;
        let container = birth.keep(container);
        // The machine's: after the birth only the container's is in place.
        let proc = (self.process.has_label())
            .then(|| open(c"/proc", OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty()))
            .transpose()
            .map_err(failed("open /proc"))?;
        let proc = proc.as_ref().map(|proc| birth.keep(proc.as_fd()));
        let console = self
            .process
            .console(exec.console)?
            .map(|console| birth.keep(console));
        let mut listener = listener::ready(self.listener, exec.listener, "running", &mut birth)?;
        let privileged = nix::unistd::geteuid().is_root();
        let between =
            self.namespaces.user.is_some() || !self.namespaces.shares(CloneFlags::CLONE_NEWPID);

        let child = |report: BorrowedFd<'static>| {
            let mut set_up = || {
                begin(exec.keep_keyring)?;
                if !between {
                    self.process.check_label()?;
                    self.process.set_oom_score()?;
                }
                let mut progress = self.process.begin(proc.map(Kept::fd))?;
                if between {
                    self.namespaces
                        .join_after_birth(container.fd(), privileged)?;
                } else {
                    self.namespaces.join_at_once(container.fd())?;
                }
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
            self.process.check_label()?;
            self.process.set_oom_score()?;
            self.process.raise_limits()?;
            self.namespaces
                .join_before_birth(container.fd(), privileged)
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
