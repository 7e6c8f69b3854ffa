//! A runtime's command line: runc's.

use crate::bundle::Bundles;
use anyhow::{Context, Result, ensure};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Those that are looked for; ours among them.
const NAMES: [&str; 4] = ["wherry-runtime", "crun", "runc", "youki"];

/// What the last call had to say.
const ERRORS: &str = "/run/runtime-bench/errors";

/// A runtime that is here.
#[derive(Debug, Clone)]
pub struct Runtime {
    /// The program's name.
    pub name: String,
    program: PathBuf,
    state: PathBuf,
}

impl Runtime {
    /// All that are in the usual places.
    pub fn found() -> Vec<Self> {
        NAMES
            .iter()
            .filter_map(|name| {
                let program = ["/usr/local/bin", "/usr/bin", "/usr/sbin"]
                    .iter()
                    .map(|folder| Path::new(folder).join(name))
                    .find(|path| path.exists())?;
                Some(Self {
                    name: (*name).to_owned(),
                    program,
                    state: Path::new("/run/runtime-bench/state").join(name),
                })
            })
            .collect()
    }

    /// What it says of itself.
    pub fn version(&self) -> String {
        let output = Command::new(&self.program).arg("--version").output();
        let text = output.map_or(Vec::new(), |output| output.stdout);
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().next().unwrap_or_default().to_owned()
    }

    /// Its command line, without an argument of a subcommand.
    fn command(&self) -> Result<Command> {
        let errors = File::create(ERRORS).with_context(|| format!("create {ERRORS}"))?;
        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.state);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(errors);
        Ok(command)
    }

    /// Its command line as words.
    pub fn words(&self, arguments: &[&str]) -> Vec<String> {
        let mut words = vec![
            self.program.display().to_string(),
            "--root".to_owned(),
            self.state.display().to_string(),
        ];
        words.extend(arguments.iter().map(|word| (*word).to_owned()));
        words
    }

    /// Runs a subcommand.
    pub fn run(&self, arguments: &[&str]) -> Result<()> {
        let status = self
            .command()?
            .args(arguments)
            .status()
            .with_context(|| format!("start {}", self.name))?;
        ensure!(
            status.success(),
            "{} {} ended with {status}: {}",
            self.name,
            arguments.join(" "),
            fs::read_to_string(ERRORS).unwrap_or_default().trim()
        );
        Ok(())
    }

    /// Starts a subcommand.
    pub fn begin(&self, arguments: &[&str]) -> Result<Child> {
        self.command()?
            .args(arguments)
            .spawn()
            .with_context(|| format!("start {}", self.name))
    }

    /// Creates and starts a container that stays, and returns its process.
    pub fn start(&self, bundles: &Bundles, id: &str, args: &[&str]) -> Result<Pid> {
        let bundle = bundles.bundle(id, args)?;
        let pid_file = bundle.join("pid");
        self.run(&[
            "create",
            "--bundle",
            &bundle.display().to_string(),
            "--pid-file",
            &pid_file.display().to_string(),
            id,
        ])?;
        self.run(&["start", id])?;
        let text = fs::read_to_string(&pid_file)
            .with_context(|| format!("read {}, which {} writes", pid_file.display(), self.name))?;
        Ok(Pid::from_raw(text.trim().parse()?))
    }

    /// Ends a container, and removes it.
    pub fn end(&self, id: &str, pid: Pid) -> Result<()> {
        self.run(&["kill", id, "KILL"])?;
        // This process is its container's reaper: the runtime has ended.
        let _ = waitpid(pid, None);
        self.delete(id)
    }

    /// Removes a container that has ended.
    pub fn delete(&self, id: &str) -> Result<()> {
        // A cgroup may have its last process for a moment after that was reaped.
        let until = Instant::now() + Duration::from_secs(10);
        loop {
            match self.run(&["delete", id]) {
                Err(_) if Instant::now() < until => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                other => return other,
            }
        }
    }
}
