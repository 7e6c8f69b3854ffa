//! The Debian guest: a machine with docker, containerd and podman, in which the
//! runtime is tested and measured (`tests/guest/mkosi.conf`).
//!
//! Its disk is made once and kept by content, like the tools tree. The programs
//! under test are a disk of their own, so that a changed one costs no new guest.

use crate::apt::PrivateApt;
use crate::crates::{self, Profile};
use crate::fingerprint::Fingerprint;
use crate::progress::Stage;
use crate::tools::Tools;
use crate::workspace::Workspace;
use crate::{kernel, process, tools};
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

/// The programs that go into the guest that tests use.
pub const TESTED: [&str; 3] = ["guest-agent", "runtime-conformance", "wherry-runtime"];

/// The conformance suite puts a copy of itself into each root file system that it
/// makes in the guest's memory.
const SMALL: [&str; 3] = [
    "profile.dev.opt-level=\"s\"",
    "profile.dev.debug=false",
    "profile.dev.strip=true",
];

/// Those that go into the one that measures.
const MEASURED: [&str; 3] = ["guest-agent", "runtime-bench", "wherry-runtime"];

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

/// Makes sure that guest, kernel and the programs for tests are there, and points
/// `build/guest` at them. Returns the disk of the guest.
///
/// The programs are those of the profile `dev`, which compiles in a fraction of the
/// time and checks more.
pub fn make(workspace: &Workspace) -> Result<PathBuf> {
    make_with(workspace, &TESTED, Profile::Dev, &SMALL)
}

/// The same with the programs that measure, optimised as those in the image are.
pub fn make_to_measure(workspace: &Workspace) -> Result<PathBuf> {
    make_with(workspace, &MEASURED, Profile::Release, &[])
}

fn make_with(
    workspace: &Workspace,
    names: &[&str],
    profile: Profile,
    settings: &[&str],
) -> Result<PathBuf> {
    let tree = tools::make(workspace)?;
    kernel::make(workspace, &tree)?;
    let guest = debian(workspace, &tree)?;
    let folder = workspace.build.join("guest");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let disk = folder.join("guest.erofs");
    tools::link(&guest.disk(), &disk)?;
    let settings: Vec<String> = settings
        .iter()
        .map(|setting| (*setting).to_owned())
        .collect();
    let names = names.iter().map(|name| (*name).to_owned()).collect();
    let programs = crates::build(workspace, &names, profile, &settings)?;
    programs_disk(&programs, &tree, &folder, &workspace.log("guest"))?;
    Ok(disk)
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
    let mut stage = Stage::begin(
        &workspace.progress,
        "guest",
        "building the Debian guest (once, about a minute)",
    );
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
    mkfs(tree, &guest.folder, "guest.erofs", "tree", &log)?;
    tools::remove(&scratch)?;
    stage.end();
    Ok(())
}

/// The second disk, `programs.erofs` in `folder`: our programs, as the guest's
/// `/usr/local`.
fn programs_disk(
    programs: &BTreeMap<String, PathBuf>,
    tree: &Tools,
    folder: &Path,
    log: &Path,
) -> Result<()> {
    let root = folder.join("programs");
    tools::remove(&root)?;
    fs::create_dir_all(root.join("bin")).context("lay out the programs' disk")?;
    for (name, program) in programs {
        fs::copy(program, root.join("bin").join(name))
            .with_context(|| format!("copy {}", program.display()))?;
    }
    let (new, disk) = ("programs.erofs.new", folder.join("programs.erofs"));
    mkfs(tree, folder, new, "programs", log)?;
    tools::remove(&root)?;
    // A guest that runs keeps the disk that it was booted with.
    fs::rename(folder.join(new), &disk).with_context(|| format!("replace {}", disk.display()))
}

/// Makes an erofs with the content of the folder `root`; both are in `folder`.
fn mkfs(tree: &Tools, folder: &Path, disk: &str, root: &str, log: &Path) -> Result<()> {
    let mut mkfs = tools::sandbox(tree, &[(folder, "/work")], "mkfs.erofs");
    mkfs.args(["--quiet", "--all-root", "-T0"])
        .arg(Path::new("/work").join(disk))
        .arg(Path::new("/work").join(root));
    process::run(&mut mkfs, log, |_| {})
}
