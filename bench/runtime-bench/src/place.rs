//! Where the measurements take place: a root with the other runtimes in it, and
//! a cgroup of their own.

use anyhow::{Context, Result};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{chdir, pivot_root};
use std::fs;
use std::path::Path;

/// All cgroups of the measurements are below this one.
pub const CGROUP: &str = "/sys/fs/cgroup/runtime-bench";

/// Makes `root` this process's root, in a mount namespace of its own: read-only,
/// with memory at `/run` and `/tmp`, one tree of cgroup v2, and `programs` at
/// `/usr/local/bin`.
pub fn enter(root: &Path, programs: Option<&Path>) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("make a mount namespace: this has to run as root")?;
    let (private, none) = (MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>);
    mount(none, "/", none, private, none).context("make the mounts private")?;
    let bind = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(root), root, none, bind, none).context("bind the root")?;
    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(none, root, none, read_only, none).context("make the root read-only")?;
    for folder in ["dev", "proc"] {
        let (from, to) = (Path::new("/").join(folder), root.join(folder));
        mount(Some(&from), &to, none, bind, none)
            .with_context(|| format!("bind {}", to.display()))?;
    }
    let fresh = |kind: &str, place: &str, data: Option<&str>| {
        let place = root.join(place);
        mount(Some(kind), &place, Some(kind), MsFlags::empty(), data)
            .with_context(|| format!("mount {kind} at {}", place.display()))
    };
    fresh("sysfs", "sys", None)?;
    fresh("cgroup2", "sys/fs/cgroup", None)?;
    fresh("tmpfs", "run", Some("mode=755"))?;
    fresh("tmpfs", "tmp", Some("mode=1777"))?;
    if let Some(programs) = programs {
        let place = root.join("usr/local/bin");
        mount(Some(programs), &place, none, bind, none).context("bind the programs")?;
    }
    chdir(root).context("enter the root")?;
    pivot_root(".", ".").context("change the root")?;
    umount2(".", MntFlags::MNT_DETACH).context("unmount the old root")?;
    chdir("/").context("enter the root")
}

/// Makes [`CGROUP`], and returns the controllers that limits can use in it.
pub fn own_cgroups() -> Result<Vec<String>> {
    fs::create_dir_all(CGROUP).with_context(|| format!("create {CGROUP}"))?;
    let top = Path::new(CGROUP).parent().unwrap_or(Path::new("/"));
    // What a controller is missing shows below.
    for folder in [top, Path::new(CGROUP)] {
        let available = read(&folder.join("cgroup.controllers"))?;
        for controller in available.split_whitespace() {
            let _ = fs::write(
                folder.join("cgroup.subtree_control"),
                format!("+{controller}"),
            );
        }
    }
    let mut enabled: Vec<String> = read(&Path::new(CGROUP).join("cgroup.subtree_control"))?
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    enabled.sort();
    Ok(enabled)
}

/// Removes it again. One that is left does no harm.
pub fn remove_cgroups() {
    let _ = fs::remove_dir(CGROUP);
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("read {}", path.display()))
}
