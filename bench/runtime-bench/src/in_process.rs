//! The library, called as PID 1 calls it: prepare, make the cgroup, start, wait,
//! remove the cgroup. Nothing of it is a process of its own.

use crate::bundle::Bundles;
use crate::place::CGROUP;
use anyhow::{Context, Result, bail, ensure};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::{WaitStatus, waitpid};
use oci_spec::runtime::Spec;
use runtime::cgroup::{self, Cgroup};
use runtime::{Exec, ExecProcess, Prepared, Setup, Start, Started, Stdio};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::time::{Duration, Instant};

/// What a caller of the library has at hand.
pub struct Library {
    cgroups: File,
    null: File,
    /// Runs `/bin/true`.
    short: Spec,
    /// Runs until it is ended.
    long: Spec,
}

/// A container that runs.
pub struct Running {
    prepared: Prepared,
    started: Started,
    cgroup: Cgroup,
}

impl Library {
    /// Parses the specifications.
    pub fn new(bundles: &Bundles) -> Result<Self> {
        Ok(Self {
            cgroups: File::open(CGROUP).with_context(|| format!("open {CGROUP}"))?,
            null: File::options().read(true).write(true).open("/dev/null")?,
            short: bundles.parsed(&["/bin/true"])?,
            long: bundles.parsed(&["/bin/sleep", "100000"])?,
        })
    }

    /// Starts `/bin/true` and waits for its end.
    pub fn start(&self) -> Result<Duration> {
        let begin = Instant::now();
        let running = self.begin(&self.short, "init")?;
        running.wait_executed()?;
        running.wait_end()?;
        running.cgroup.remove()?;
        Ok(begin.elapsed())
    }

    /// Starts a container that stays; it may still be setting itself up.
    pub fn start_long(&self, id: &str) -> Result<Running> {
        self.begin(&self.long, id)
    }

    /// Runs `/bin/true` in a running container.
    pub fn exec(&self, container: &Running) -> Result<Duration> {
        let begin = Instant::now();
        let process = ExecProcess {
            args: vec!["/bin/true".to_owned()],
            env: Vec::new(),
            cwd: None,
        };
        let started = container.prepared.exec(&process)?.start(
            container.started.pidfd.as_fd(),
            Exec {
                cgroup: Some(container.cgroup.fd()),
                stdio: self.stdio(),
                passed: &[],
                console: None,
                listener: None,
                keep_keyring: false,
            },
        )?;
        executed(started.setup.as_fd())?;
        let status = waitpid(started.pid, None)?;
        ensure!(
            matches!(status, WaitStatus::Exited(_, 0)),
            "it ended with {status:?}"
        );
        Ok(begin.elapsed())
    }

    fn begin(&self, spec: &Spec, id: &str) -> Result<Running> {
        let prepared = runtime::prepare(spec)?;
        let resources = spec
            .linux()
            .as_ref()
            .and_then(|linux| linux.resources().as_ref())
            .context("the specification has no limits")?;
        let cgroup = cgroup::create(self.cgroups.as_fd(), id, resources)?;
        let started = prepared.start(Start {
            cgroup: Some(cgroup.fd()),
            stdio: self.stdio(),
            listen: &[],
            passed: &[],
            env: &[],
            lifecycle: None,
        })?;
        Ok(Running {
            prepared,
            started,
            cgroup,
        })
    }

    fn stdio(&self) -> Stdio<'_> {
        let null = self.null.as_fd();
        Stdio {
            stdin: null,
            stdout: null,
            stderr: null,
        }
    }
}

impl Running {
    /// Waits until its program runs.
    pub fn wait_executed(&self) -> Result<()> {
        executed(self.started.setup.as_fd())
    }

    /// Ends all that runs in it.
    pub fn kill(&self) -> Result<()> {
        Ok(self.cgroup.kill()?)
    }

    /// Reaps it, and removes its cgroup.
    pub fn remove(&self) -> Result<()> {
        waitpid(self.started.pid, None)?;
        Ok(self.cgroup.remove()?)
    }

    /// The number of its process.
    pub fn pid(&self) -> i32 {
        self.started.pid.as_raw()
    }

    fn wait_end(&self) -> Result<()> {
        let status = waitpid(self.started.pid, None)?;
        ensure!(
            matches!(status, WaitStatus::Exited(_, 0)),
            "it ended with {status:?}"
        );
        Ok(())
    }
}

fn executed(setup: BorrowedFd<'_>) -> Result<()> {
    loop {
        match runtime::setup_outcome(setup)? {
            Setup::Executed => return Ok(()),
            Setup::Pending => {
                poll(
                    &mut [PollFd::new(setup, PollFlags::POLLIN)],
                    PollTimeout::NONE,
                )?;
            }
            other => bail!("the container's set-up: {other:?}"),
        }
    }
}

/// Starts one container, in a process that does nothing else.
pub fn once(bundles: &Path) -> Result<()> {
    Library::new(&Bundles::at(bundles))?.start().map(drop)
}
