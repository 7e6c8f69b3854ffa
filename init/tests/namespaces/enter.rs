//! From a process of the host to the real `init` as PID 1 of its own namespaces.
//!
//! Two steps, each a fresh copy of this program, because only a child is in the
//! new pid namespace: [`outside`] joins the cgroup, makes the namespaces and
//! waits for the end; [`inside`] builds the root, locks the host out and
//! executes `init`.
//!
//! What keeps the host safe: the root is a tmpfs with read-only binds and the
//! host's root is unmounted; the cgroup has device rules that allow `null`,
//! `zero` and the like, so no disk, console, watchdog or kernel log can be
//! opened whatever `/dev` shows; `/proc/sys` and `/sys` are read-only; the
//! clock, modules and raw I/O are out of the bounding set; and the kernel kills
//! both steps when the test's thread ends.

use std::error::Error;
use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, ExitCode};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl::set_pdeathsig;
use nix::sys::signal::Signal;
use nix::unistd::{chdir, pivot_root};
use rustix::thread::{CapabilitySet, remove_capability_from_bounding_set};

/// The first argument of [`outside`].
pub const OUTSIDE: &str = "--outside";
/// The first argument of [`inside`].
pub const INSIDE: &str = "--inside";

/// The leaf that `init` lives in: the root of its hierarchy hands controllers
/// down, so it can hold no process (the kernel's rule of no internal processes).
const LEAF: &str = "pid1";

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Enters cgroup and namespaces, starts [`inside`] as process 1 and waits for its
/// end. Prints the process's number, then how it ended.
pub fn outside(cgroup: &str, folder: &str, image: &str) -> Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL)?;
    let cgroup = Path::new(cgroup);
    fs::write(cgroup.join("cgroup.procs"), "0")?;
    unshare(CloneFlags::CLONE_NEWCGROUP)?;
    fs::create_dir(cgroup.join(LEAF))?;
    fs::write(cgroup.join(LEAF).join("cgroup.procs"), "0")?;
    unshare(
        CloneFlags::CLONE_NEWNS
            | CloneFlags::CLONE_NEWUTS
            | CloneFlags::CLONE_NEWIPC
            | CloneFlags::CLONE_NEWNET
            | CloneFlags::CLONE_NEWPID,
    )?;
    let mut child = Command::new("/proc/self/exe")
        .args([INSIDE, folder, image])
        .spawn()?;
    println!("{}", child.id());
    let status = child.wait()?;
    // reboot(2) ends a pid namespace by a signal (reboot(2), "Behavior inside
    // PID namespaces").
    match status.signal().map(Signal::try_from) {
        Some(Ok(Signal::SIGHUP)) => println!("restart"),
        Some(Ok(Signal::SIGINT)) => println!("poweroff"),
        _ => println!("{status}"),
    }
    Ok(ExitCode::SUCCESS)
}

/// Process 1: makes the root and becomes `init`.
pub fn inside(folder: &str, image: &str) -> Result<ExitCode> {
    set_pdeathsig(Signal::SIGKILL)?;
    if std::process::id() != 1 {
        return Err("this is not process 1 of a namespace".into());
    }
    let (folder, image) = (Path::new(folder), Path::new(image));
    let root = folder.join("root");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    fresh("tmpfs", &root, Some("mode=0755,size=16m"))?;
    make_tree(&root)?;
    bind(&image.join("lib"), &root.join("lib"))?;
    bind(&image.join("init"), &root.join("usr/bin/init"))?;
    let services = root.join("usr/lib/wherry/services");
    bind(&folder.join("services"), &services)?;
    bind(&image.join("program"), &services.join("program/root"))?;
    make_proc(&root.join("proc"), folder)?;
    make_sys(&root.join("sys"))?;
    make_dev(&root.join("dev"), folder)?;

    chdir(&root)?;
    pivot_root(".", ".")?;
    umount2(".", MntFlags::MNT_DETACH)?;
    chdir("/")?;
    read_only(Path::new("/"))?;
    for capability in [
        CapabilitySet::SYS_TIME,
        CapabilitySet::SYS_MODULE,
        CapabilitySet::SYS_RAWIO,
    ] {
        remove_capability_from_bounding_set(capability)?;
    }
    Err(Command::new("/usr/bin/init").env_clear().exec().into())
}

/// The folders of the image's root that PID 1 and the services need.
fn make_tree(root: &Path) -> Result<()> {
    for folder in [
        "dev",
        "etc",
        "lib",
        "proc",
        "run",
        "state",
        "sys",
        "tmp",
        "usr/bin",
        "usr/lib/wherry/services",
        "var",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    symlink("lib", root.join("lib64"))?;
    fs::write(root.join("usr/bin/init"), "")?;
    fs::write(
        root.join("usr/lib/os-release"),
        "ID=wherry\nPRETTY_NAME=\"Wherry in namespaces\"\nIMAGE_VERSION=0\n",
    )?;
    Ok(())
}

/// `/proc` of the new pid namespace. PID 1 finds it mounted.
fn make_proc(proc: &Path, folder: &Path) -> Result<()> {
    fresh("proc", proc, None)?;
    bind(&folder.join("cmdline"), &proc.join("cmdline"))?;
    let trigger = proc.join("sysrq-trigger");
    if trigger.exists() {
        bind(&folder.join("empty"), &trigger)?;
    }
    // The kernel's settings are the host's.
    bind(&proc.join("sys"), &proc.join("sys"))
}

/// `/sys` of the new network namespace.
fn make_sys(sys: &Path) -> Result<()> {
    fresh("sysfs", sys, None)?;
    read_only(sys)?;
    // The host's boot loader is none of this machine's.
    let firmware = sys.join("firmware");
    if firmware.is_dir() {
        fresh("tmpfs", &firmware, None)?;
    }
    Ok(())
}

/// `/dev`, with pipes to the test for the console and the kernel's log.
fn make_dev(dev: &Path, folder: &Path) -> Result<()> {
    fresh("devtmpfs", dev, Some("mode=0755"))?;
    for name in ["console", "kmsg"] {
        let none = None::<&str>;
        let (from, to) = (folder.join(name), dev.join(name));
        mount(Some(&from), &to, none, MsFlags::MS_BIND, none)?;
    }
    Ok(())
}

fn fresh(kind: &str, place: &Path, data: Option<&str>) -> Result<()> {
    mount(Some(kind), place, Some(kind), MsFlags::empty(), data)
        .map_err(|error| format!("mount {kind} at {}: {error}", place.display()).into())
}

/// Binds a file or folder, read-only.
fn bind(from: &Path, to: &Path) -> Result<()> {
    let none = None::<&str>;
    mount(Some(from), to, none, MsFlags::MS_BIND, none)
        .map_err(|error| format!("bind {} at {}: {error}", from.display(), to.display()))?;
    read_only(to)
}

fn read_only(place: &Path) -> Result<()> {
    let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
    mount(None::<&str>, place, None::<&str>, flags, None::<&str>)
        .map_err(|error| format!("make {} read-only: {error}", place.display()).into())
}
