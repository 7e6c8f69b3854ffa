//! A booted machine, saved, from which further machines are restored.
//!
//! A boot takes an emulated machine many seconds, a restored one about one. What
//! is saved is everything but the disk's content (QEMU's migration to a file)
//! and a copy of the disk as it was then; each restored machine writes to a copy
//! of its own. A restored machine differs from one that has just booted:
//!
//! - its wall clock is that of the moment at which it was saved;
//! - its random numbers begin as those of all others from the same snapshot;
//! - its console is empty, although the shell waits behind its prompt;
//! - its devices are those of the saved machine: firmware or not, memory and
//!   arguments must be the same.
//!
//! [`MachineBuilder`]: crate::MachineBuilder

use crate::{Build, Error, Machine};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Saving or restoring takes no longer, on the slowest of hosts.
const LIMIT: Duration = Duration::from_secs(120);

/// A machine that was saved.
#[derive(Debug)]
pub struct Snapshot {
    folder: PathBuf,
}

impl Snapshot {
    /// A folder for one of these in the build folder, for this process. Those of
    /// processes that have ended are removed.
    pub(crate) fn new(build: &Build, name: &str) -> Result<Self, Error> {
        let all = build.directory().join("snapshots");
        remove_those_of_ended_processes(&all);
        let folder = all.join(std::process::id().to_string()).join(name);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        Ok(Self { folder })
    }

    /// Saves a machine that has this snapshot's disk, and ends it.
    pub(crate) fn take(&self, mut machine: Machine) -> Result<(), Error> {
        // So it flushes the disk, and what is restored waits until it may continue.
        machine.monitor("stop", &json!({}))?;
        let state = format!("file:{}", self.state().display());
        machine.monitor("migrate", &json!({ "uri": state }))?;
        wait_until(&mut machine, "query-migrate", "completed")
    }

    /// What QEMU saved.
    pub(crate) fn state(&self) -> PathBuf {
        self.folder.join("state")
    }

    /// The disk as the machine left it.
    pub(crate) fn disk(&self) -> PathBuf {
        self.folder.join("disk.raw")
    }

    /// The firmware's variables, where the machine has firmware.
    pub(crate) fn variables(&self) -> PathBuf {
        self.folder.join("variables")
    }
}

/// Waits until a restored machine has everything, and lets it continue.
pub(crate) fn go_on(machine: &mut Machine) -> Result<(), Error> {
    wait_until(machine, "query-status", "paused")?;
    machine.monitor("cont", &json!({})).map(drop)
}

/// Asks until the answer has this status.
fn wait_until(machine: &mut Machine, command: &str, wanted: &str) -> Result<(), Error> {
    let deadline = Instant::now() + LIMIT;
    loop {
        let answer = machine.monitor(command, &json!({}))?;
        if answer["status"] == wanted {
            return Ok(());
        }
        if answer["status"] == "failed" || Instant::now() >= deadline {
            return Err(Error::Monitor {
                command: command.to_owned(),
                answer: answer.to_string(),
            });
        }
        thread::sleep(Duration::from_millis(20));
    }
}

/// What cannot be removed stays until the next time.
fn remove_those_of_ended_processes(all: &Path) {
    for entry in fs::read_dir(all).into_iter().flatten().flatten() {
        if !Path::new("/proc").join(entry.file_name()).exists() {
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::remove_those_of_ended_processes;
    use std::fs;

    #[test]
    fn only_snapshots_of_processes_that_run_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join(std::process::id().to_string());
        // No process has this number (proc(5): pid_max is 2^22 at most).
        let ended = folder.path().join("99999999");
        for snapshot in [&own, &ended] {
            fs::create_dir(snapshot).unwrap();
            fs::write(snapshot.join("state"), "state").unwrap();
        }
        remove_those_of_ended_processes(folder.path());
        assert!(own.join("state").exists());
        assert!(!ended.exists());
    }
}
