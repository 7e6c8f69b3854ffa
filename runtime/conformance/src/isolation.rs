//! Runs each check in a process of its own that takes everything with it when
//! it ends: it is the first process of a pid namespace, and its mounts are in
//! its own mount namespace.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns, unshare};
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::bench::Bench;
use crate::chapters;
use crate::clause::{Clause, Problem};
use crate::probe::world;
use crate::sys;

/// The result of one clause with one runtime.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    Fail(String),
    /// It cannot be checked here.
    Untried(String),
}

const CGROUP: &str = "/sys/fs/cgroup";

/// Checks one clause, for at most this long.
pub fn check(runtime: &Path, at: usize, limit: Duration) -> Result<Verdict> {
    let folder = TempDir::with_prefix("conformance-").context("make a folder")?;
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755))?;
    let (reader, writer) = std::io::pipe()?;
    let mut child = first_process(
        Command::new("/proc/self/exe")
            .arg("isolated")
            .arg(runtime)
            .arg(at.to_string())
            .arg(folder.path())
            .stdin(Stdio::null())
            .stdout(writer)
            .stderr(File::create(folder.path().join("errors"))?),
    )?;
    let text = read(reader, Instant::now() + limit);
    // Every process that it or a runtime started goes with it.
    let _ = child.kill();
    child.wait()?;
    let errors = fs::read_to_string(folder.path().join("errors")).unwrap_or_default();
    remove_cgroups(folder.path());
    Ok(match text {
        None => Verdict::Fail(format!("no end after {} seconds", limit.as_secs())),
        Some(text) => serde_json::from_str(&text).unwrap_or_else(|_| {
            Verdict::Fail(format!("the check itself failed: {}", errors.trim()))
        }),
    })
}

/// Starts a program as the first process of a new pid namespace.
fn first_process(command: &mut Command) -> Result<Child> {
    let own = File::open("/proc/self/ns/pid").context("open our own pid namespace")?;
    unshare(CloneFlags::CLONE_NEWPID).context("make a pid namespace (root is needed)")?;
    let child = command.spawn();
    setns(own.as_fd(), CloneFlags::CLONE_NEWPID).context("return to our own pid namespace")?;
    child.context("start this program again")
}

/// Reads to the end; returns nothing if the end is not reached in time.
fn read(mut pipe: std::io::PipeReader, end: Instant) -> Option<String> {
    let mut bytes = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        if left.is_zero() || poll(&mut ready, timeout) == Ok(0) {
            return None;
        }
        match pipe.read(&mut buffer) {
            Ok(0) => return Some(String::from_utf8_lossy(&bytes).into_owned()),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(_) => return None,
        }
    }
}

/// Removes the cgroups whose names are those of a check's containers.
fn remove_cgroups(folder: &Path) {
    let Some(name) = folder.file_name().map(|name| name.to_string_lossy()) else {
        return;
    };
    for tree in world::mounts() {
        if tree.kind.starts_with("cgroup") {
            remove_named(Path::new(&tree.point), &name, 3);
        }
    }
}

fn remove_named(directory: &Path, name: &str, depth: u32) {
    for child in directories(directory) {
        let is_ours = child
            .file_name()
            .is_some_and(|own| own.to_string_lossy().contains(name));
        if is_ours {
            remove_tree(&child);
        } else if depth > 0 {
            remove_named(&child, name, depth - 1);
        }
    }
}

fn remove_tree(directory: &Path) {
    for child in directories(directory) {
        remove_tree(&child);
    }
    // The kernel may still be removing its last process.
    for _ in 0..100 {
        if fs::remove_dir(directory).is_ok() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn directories(path: &Path) -> Vec<PathBuf> {
    fs::read_dir(path)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// `isolated RUNTIME CLAUSE FOLDER`: the check itself.
pub fn inside(arguments: &[String]) -> Result<ExitCode> {
    let [runtime, at, folder] = arguments else {
        anyhow::bail!("isolated RUNTIME CLAUSE FOLDER");
    };
    sys::die_with_parent();
    arrange()?;
    let clauses = chapters::all();
    let clause = clauses
        .get(at.parse::<usize>()?)
        .context("there is no such clause")?;
    let verdict = verdict(clause, Path::new(runtime), Path::new(folder));
    println!("{}", serde_json::to_string(&verdict)?);
    Ok(ExitCode::SUCCESS)
}

/// Its own mounts: `/proc` of this pid namespace, and cgroup v2 if the machine
/// has it, even beside the trees of v1.
fn arrange() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace")?;
    let none = None::<&str>;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(none, "/", none, private, none).context("make mounts private")?;
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), none).context("mount /proc")?;
    let controllers = Path::new(CGROUP).join("cgroup.controllers");
    if !controllers.exists() {
        let hidden = mount(
            Some("cgroup2"),
            CGROUP,
            Some("cgroup2"),
            MsFlags::empty(),
            none,
        );
        if let Err(error) = hidden {
            eprintln!("no cgroup v2 here: {error}");
        }
    }
    Ok(())
}

fn verdict(clause: &Clause, runtime: &Path, folder: &Path) -> Verdict {
    if let Some(missing) = clause.needs.iter().find_map(|need| need.missing()) {
        return Verdict::Untried(missing);
    }
    match Bench::new(runtime, folder).and_then(|bench| (clause.check)(&bench)) {
        Ok(()) => Verdict::Pass,
        Err(Problem::Failed(why)) => Verdict::Fail(why),
        Err(Problem::Untried(why)) => Verdict::Untried(why),
    }
}
