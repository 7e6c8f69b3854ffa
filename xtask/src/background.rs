//! A further `cargo xtask` that works while this one does something else.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// How many of its last lines are shown when it fails.
const SHOWN: usize = 40;

/// One that runs. It ends with this value, and with this process.
pub struct Background {
    name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Background {
    /// Starts `cargo xtask WORDS` at a priority at which it takes only the CPU time
    /// that nothing else wants. What it prints is in `log`.
    pub fn start(name: &'static str, log: PathBuf, words: &[&str]) -> Result<Self> {
        if let Some(folder) = log.parent() {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        let output = File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let program = std::env::current_exe().context("find this program")?;
        // A process group of its own is ended as a whole; when this process is killed,
        // the kernel ends it.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "TERM", "nice", "-n", "19"])
            .arg(program)
            .args(words)
            .stdin(Stdio::null())
            .stdout(output.try_clone().context("duplicate a descriptor")?)
            .stderr(output)
            .process_group(0)
            .spawn()
            .context("start setpriv (from util-linux)")?;
        Ok(Self { name, child, log })
    }

    /// Waits for its end. The error of one that failed shows its last lines.
    pub fn finish(mut self) -> Result<()> {
        let status = self.child.wait().context("wait for cargo xtask")?;
        if status.success() {
            return Ok(());
        }
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        bail!(
            "{} failed ({status}); its last lines, all of them in {}:\n  {}",
            self.name,
            self.log.display(),
            lines[lines.len().saturating_sub(SHOWN)..].join("\n  ")
        )
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        // One that was waited for has no process group any more.
        if let Ok(None) = self.child.try_wait()
            && let Ok(pid) = i32::try_from(self.child.id())
        {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGTERM);
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Background;
    use std::fs;

    // The program that is started is this test program, whose words are libtest's.

    #[test]
    fn what_it_prints_is_in_its_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log/list.log");
        let list = Background::start("list", log.clone(), &["--list"]).unwrap();
        list.finish().unwrap();
        let text = fs::read_to_string(log).unwrap();
        assert!(text.contains("what_it_prints_is_in_its_log"), "{text}");
    }

    #[test]
    fn one_that_fails_shows_its_last_lines() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("wrong.log");
        let wrong = Background::start("wrong", log, &["--no-such-option"]).unwrap();
        let error = wrong.finish().unwrap_err().to_string();
        assert!(error.starts_with("wrong failed"), "{error}");
        assert!(error.contains("no-such-option"), "{error}");
    }
}
