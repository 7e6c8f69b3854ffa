//! A container that the runtime created.

use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde_json::Value;

use super::{Bench, Bundle, Output, Ran};
use crate::clause::{Problem, Try, demand};
use crate::probe;

/// How a container's process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    Code(i32),
    Signal(i32),
    /// It is gone, and its status is unknown.
    Gone,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            End::Code(code) => write!(f, "it ended with code {code}"),
            End::Signal(signal) => write!(f, "signal {signal} ended it"),
            End::Gone => f.write_str("it is gone"),
        }
    }
}

/// A container, at least created.
pub struct Container<'bench> {
    bench: &'bench Bench,
    pub id: String,
    pub pid: Pid,
    stdout: PathBuf,
    stderr: PathBuf,
}

impl<'bench> Container<'bench> {
    /// Creates one with additional arguments of `create`, or returns the
    /// runtime's message.
    pub fn create(
        bench: &'bench Bench,
        bundle: &Bundle,
        id: &str,
        further: &[&str],
    ) -> Try<Result<Container<'bench>, String>> {
        bundle.save()?;
        let pid_file = bench.path("pid");
        let stdout = bench.path("stdout");
        let stderr = bench.path("stderr");
        let mut command = bench.command(&["create", "--bundle"]);
        command
            .arg(bundle.folder())
            .arg("--pid-file")
            .arg(&pid_file)
            .args(further)
            .arg(id)
            .stdout(File::create(&stdout)?)
            .stderr(File::create(&stderr)?);
        let status = command.status().map_err(|error| {
            Problem::Failed(format!(
                "{} does not run: {error}",
                bench.runtime().display()
            ))
        })?;
        if !status.success() {
            return Ok(Err(String::from_utf8_lossy(&fs::read(stderr)?).into_owned()));
        }
        let text = fs::read_to_string(&pid_file)
            .map_err(|error| Problem::Failed(format!("no pid file after create: {error}")))?;
        let pid = text
            .trim()
            .parse()
            .map_err(|_| Problem::Failed(format!("the pid file holds {text:?}")))?;
        Ok(Ok(Container {
            bench,
            id: id.to_owned(),
            pid: Pid::from_raw(pid),
            stdout,
            stderr,
        }))
    }

    /// A command on this container: `start`, `delete`.
    pub fn command(&self, name: &str) -> Try<Output> {
        self.bench.call(&[name, &self.id])
    }

    /// Starts it; this must succeed.
    pub fn start(&self) -> Try<()> {
        let started = self.command("start")?;
        demand!(
            started.worked(),
            "start failed: {} {}",
            started.stderr.trim(),
            self.errors().trim()
        );
        Ok(())
    }

    /// Its state as reported by the runtime.
    pub fn state(&self) -> Try<Value> {
        Ok(serde_json::from_str(
            &self.bench.must(&["state", &self.id])?.stdout,
        )?)
    }

    /// Its `status`.
    pub fn status(&self) -> Try<String> {
        Ok(super::text(&self.state()?, "status").to_owned())
    }

    /// Sends a signal through the runtime; this must succeed.
    pub fn kill(&self, signal: &str) -> Try<()> {
        self.bench.must(&["kill", &self.id, signal])?;
        Ok(())
    }

    /// Deletes it; this must succeed.
    pub fn delete(&self) -> Try<()> {
        self.bench.must(&["delete", &self.id])?;
        Ok(())
    }

    /// Waits until its process has ended.
    pub fn wait(&self) -> Try<End> {
        loop {
            match waitpid(self.pid, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(_, code)) => return Ok(End::Code(code)),
                Ok(WaitStatus::Signaled(_, signal, _)) => return Ok(End::Signal(signal as i32)),
                Ok(_) | Err(Errno::EINTR) => {}
                // It is not a child of this process, or was reaped before.
                Err(_) if kill(self.pid, None) == Err(Errno::ESRCH) => return Ok(End::Gone),
                Err(_) => {}
            }
            // A pid namespace ends when its last process was reaped, and this
            // process must reap orphans, as init does.
            for zombie in left_zombies() {
                if zombie != self.pid {
                    let _ = waitpid(zombie, Some(WaitPidFlag::WNOHANG));
                }
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Its output so far.
    pub fn printed(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stdout).unwrap_or_default()).into_owned()
    }

    /// Its error output so far.
    pub fn errors(&self) -> String {
        String::from_utf8_lossy(&fs::read(&self.stderr).unwrap_or_default()).into_owned()
    }

    /// Its result, after it ended.
    pub fn ran(&self, end: End) -> Try<Ran> {
        Ok(Ran {
            end,
            results: probe::lines(&self.printed()),
            stderr: self.errors(),
        })
    }

    /// Runs `exec` with additional arguments to its end.
    pub fn exec(&self, options: &[&str], args: &[String]) -> Try<Output> {
        let mut command = self.exec_command(options, args);
        self.bench.output(&mut command)
    }

    /// The command of an `exec`.
    pub fn exec_command(&self, options: &[&str], args: &[String]) -> Command {
        let mut command = self.bench.command(&["exec"]);
        command.args(options).arg(&self.id).args(args);
        command
    }

    /// Whether its process exists and is not a zombie.
    pub fn is_alive(&self) -> bool {
        fs::read_to_string(format!("/proc/{}/stat", self.pid))
            .is_ok_and(|text| !text.contains(") Z "))
    }
}

/// Processes of containers that have ended and that nobody has waited for.
pub fn left_zombies() -> Vec<Pid> {
    let is_left = |pid: &i32| {
        fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|text| {
            let field = |name: &str| {
                text.lines()
                    .find_map(|line| line.strip_prefix(name))
                    .unwrap_or_default()
                    .trim()
            };
            // A process of only this namespace belongs to no container.
            field("State:").starts_with('Z') && field("NSpid:").split_whitespace().count() > 1
        })
    };
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .filter(is_left)
        .map(Pid::from_raw)
        .collect()
}
