//! The Debian guest: a machine with docker, containerd and podman, in which the
//! runtime is tested and measured (`tests/guest/mkosi.conf`).
//!
//! Its disk is made once and kept by content, like the tools tree. The programs
//! under test are a disk of their own, so that a changed one costs no new guest.

use crate::apt::PrivateApt;
use crate::fingerprint::Fingerprint;
use crate::progress::Stage;
use crate::workspace::Workspace;
use crate::{crates, kernel, process, tools};
use anyhow::{Context, Result};
use machine::{Build, Tools};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// The programs that go into the guest.
pub const PROGRAMS: [&str; 4] = [
    "guest-agent",
    "runtime-bench",
    "runtime-conformance",
    "wherry-runtime",
];

/// The finished guest.
#[derive(Debug, Clone)]
pub struct Guest {
    folder: PathBuf,
}

impl Guest {
    /// Its user space, as a folder.
    pub fn tree(&self) -> PathBuf {
        self.folder.join("tree")
    }

    /// Its disk: the same as an erofs.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("guest.erofs")
    }
}

/// Makes sure that guest, kernel and programs are there, and points
/// `build/guest` at them.
pub fn make(workspace: &Workspace) -> Result<Build> {
    let tree = tools::make(workspace)?;
    kernel::make(workspace, &tree)?;
    let guest = debian(workspace, &tree)?;
    let folder = workspace.build.join("guest");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    tools::link(&guest.disk(), &folder.join("guest.erofs"))?;
    programs(workspace, &tree, &folder.join("programs.erofs"))?;
    Ok(Build::at(&workspace.build))
}

/// Makes sure that the guest's user space and disk are there.
pub fn debian(workspace: &Workspace, tree: &Tools) -> Result<Guest> {
    let recipe = workspace.root.join("tests/guest");
    let key = Fingerprint::of("guest 1").path(&recipe)?.finish();
    let guest = Guest {
        folder: workspace.cache.join("guest").join(key),
    };
    let complete = guest.folder.join("complete");
    if !complete.exists() {
        let _lock = workspace.lock_cache()?;
        // Somebody else may have made it while this waited.
        if !complete.exists() {
            build(workspace, tree, &recipe, &guest)?;
            fs::write(&complete, "")?;
        }
    }
    Ok(guest)
}

fn build(workspace: &Workspace, tree: &Tools, recipe: &Path, guest: &Guest) -> Result<()> {
    let log = workspace.log("guest");
    let mut stage = Stage::begin("guest", "building the Debian guest (once, about a minute)");
    let scratch = workspace.cache.join("guest/scratch");
    tools::remove(&scratch)?;
    let packages = scratch.join("packages");
    fs::create_dir_all(&packages)?;
    let apt = PrivateApt::set_up(&scratch.join("apt"))?;
    process::run(
        tools::mkosi(tree)
            .arg("--directory")
            .arg(recipe)
            .arg("--output-directory")
            .arg(&scratch)
            .arg("--package-cache-dir")
            .arg(&packages)
            .arg("--sandbox-tree")
            .arg(apt.mkosi_sandbox()?)
            .args(["--force", "build"]),
        &log,
        |line| tools::follow_apt(&mut stage, line),
    )
    .context("cannot build the Debian guest")?;
    tools::remove(&guest.folder)?;
    fs::create_dir_all(&guest.folder)?;
    fs::rename(scratch.join("guest"), guest.tree())
        .with_context(|| format!("put the guest at {}", guest.tree().display()))?;
    let mut mkfs = tree.command("mkfs.erofs")?;
    mkfs.args(["--quiet", "--all-root", "-T0"])
        .arg(guest.disk())
        .arg(guest.tree());
    process::run(&mut mkfs, &log, |_| {})?;
    tools::remove(&scratch)?;
    stage.end();
    Ok(())
}

/// The second disk: our programs, as the guest's `/usr/local`.
fn programs(workspace: &Workspace, tree: &Tools, disk: &Path) -> Result<()> {
    let names: BTreeSet<String> = PROGRAMS.map(str::to_owned).into();
    let programs = crates::build(workspace, &names)?;
    let scratch = TempDir::with_prefix("wherry-guest-").context("make a scratch folder")?;
    let folder = scratch.path().join("bin");
    fs::create_dir(&folder).context("lay out the programs' disk")?;
    for (name, program) in &programs {
        fs::copy(program, folder.join(name))
            .with_context(|| format!("copy {}", program.display()))?;
    }
    let new = disk.with_extension("new");
    let mut mkfs = tree.command("mkfs.erofs")?;
    mkfs.args(["--quiet", "--all-root", "-T0"])
        .arg(&new)
        .arg(scratch.path());
    process::run(&mut mkfs, &workspace.log("guest"), |_| {})?;
    // A guest that runs keeps the disk that it was booted with.
    fs::rename(&new, disk).with_context(|| format!("replace {}", disk.display()))
}
