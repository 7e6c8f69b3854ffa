//! What stays in memory beside running containers.

use crate::bundle::Bundles;
use crate::command::Runtime;
use crate::in_process::{Library, Running};
use crate::single::INIT;
use anyhow::{Context, Result};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Enough for a container's share to show.
const COUNT: usize = 50;

/// By runtime: processes beside the containers' own and their memory, the state
/// folder (which is in memory too), and for the library what its caller grew by.
pub fn all(bundles: &Bundles, library: &Library, runtimes: &[Runtime]) -> Result<Vec<Value>> {
    eprintln!("memory of running containers");
    let mut results = vec![of_library(library)?];
    for runtime in runtimes {
        match of_command(bundles, runtime) {
            Ok(result) => results.push(result),
            Err(error) => eprintln!("no memory of {}: {error:#}", runtime.name),
        }
    }
    Ok(results)
}

fn of_library(library: &Library) -> Result<Value> {
    let (before, own) = (processes()?, memory("self"));
    let running: Vec<Running> = (0..COUNT)
        .map(|number| library.start_long(&format!("resident-{number}")))
        .collect::<Result<_>>()?;
    for one in &running {
        one.wait_executed()?;
    }
    let containers = running.iter().map(Running::pid).collect();
    let (count, kib) = beside(&before, &containers)?;
    let grown = memory("self").saturating_sub(own);
    for one in &running {
        one.kill()?;
        one.remove()?;
    }
    Ok(json!({
        "runtime": INIT, "count": COUNT, "processes": count, "processes_kib": kib,
        "caller_kib": grown, "state_kib": 0,
    }))
}

fn of_command(bundles: &Bundles, runtime: &Runtime) -> Result<Value> {
    let before = processes()?;
    let mut containers = Vec::new();
    for number in 0..COUNT {
        let id = format!("{}-resident-{number}", runtime.name);
        let pid = runtime.start(bundles, &id, &["/bin/sleep", "100000"])?;
        containers.push((id, pid));
    }
    let pids = containers.iter().map(|(_, pid)| pid.as_raw()).collect();
    let (count, kib) = beside(&before, &pids)?;
    let state = used(
        Path::new("/run/runtime-bench/state")
            .join(&runtime.name)
            .as_path(),
    )?;
    for (id, pid) in containers {
        runtime.end(&id, pid)?;
    }
    Ok(json!({
        "runtime": runtime.name, "count": COUNT, "processes": count, "processes_kib": kib,
        "caller_kib": 0, "state_kib": state,
    }))
}

/// How many processes there are that were not there before and are no
/// container's, and their memory in KiB. Kernel threads have none, and programs
/// of the machine's that began meanwhile are told by their memory's owner: they
/// are not this process's children.
fn beside(before: &BTreeSet<i32>, containers: &BTreeSet<i32>) -> Result<(usize, u64)> {
    let ourselves = std::process::id();
    let new: Vec<i32> = processes()?
        .into_iter()
        .filter(|pid| !before.contains(pid) && !containers.contains(pid))
        .filter(|pid| parent(*pid) == Some(ourselves))
        .collect();
    let kib = new.iter().map(|pid| memory(&pid.to_string())).sum();
    Ok((new.len(), kib))
}

fn processes() -> Result<BTreeSet<i32>> {
    let entries = fs::read_dir("/proc").context("read /proc")?;
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect())
}

/// A process's parent; this process adopts what a runtime leaves behind.
fn parent(pid: i32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

/// A process's proportional share of memory, in KiB.
fn memory(process: &str) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup")).unwrap_or_default();
    text.lines()
        .find_map(|line| line.strip_prefix("Pss:")?.trim().strip_suffix(" kB"))
        .and_then(|kib| kib.trim().parse().ok())
        .unwrap_or_default()
}

/// What the files of a folder take, in KiB.
fn used(folder: &Path) -> Result<u64> {
    let mut total = 0;
    let Ok(entries) = fs::read_dir(folder) else {
        return Ok(0);
    };
    for entry in entries {
        let path = entry?.path();
        let metadata = path.symlink_metadata()?;
        total += metadata.blocks() / 2;
        if metadata.is_dir() {
            total += used(&path)?;
        }
    }
    Ok(total)
}
