//! What a machine must have for a clause to be checked on it.

use std::fs;
use std::path::Path;

use crate::probe::world;
use crate::sys;

/// Something that not every machine has.
#[derive(Debug, Clone, Copy)]
pub enum Need {
    /// A controller of the cgroup v2 tree.
    Controller(&'static str),
    /// That the cgroup v2 tree lacks a controller.
    NoController(&'static str),
    /// A capability of the suite's own.
    Capability(&'static str),
    /// A file or directory exists.
    Path(&'static str),
    /// A file or directory does not exist.
    NoPath(&'static str),
    /// User namespaces can be made.
    UserNamespace,
    /// This many processors.
    Processors(usize),
    /// At least this version of the kernel.
    Kernel(u32, u32),
    /// 32-bit programs run.
    I386,
    /// The kernel supports pages of 2 MiB.
    HugePages,
    /// A disk whose numbers a limit can name.
    Disk,
    /// cgroup v2 at its usual place, by itself.
    UnifiedTree,
}

impl Need {
    /// What is missing, if anything.
    pub fn missing(self) -> Option<String> {
        let (met, otherwise) = match self {
            Need::Controller(name) => (
                fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
                    .is_ok_and(|text| text.split_whitespace().any(|word| word == name)),
                format!("no {name} controller in the cgroup v2 tree"),
            ),
            Need::NoController(name) => (
                Need::Controller(name).missing().is_some(),
                format!("the cgroup v2 tree has a {name} controller"),
            ),
            Need::Capability(name) => (
                sys::bounding() & world::capability_mask(&[name]) != 0,
                format!("the suite lacks {name}"),
            ),
            Need::Path(path) => (Path::new(path).exists(), format!("no {path}")),
            Need::NoPath(path) => (!Path::new(path).exists(), format!("{path} is there")),
            Need::UserNamespace => (
                Path::new("/proc/self/ns/user").exists()
                    && !fs::read_to_string("/proc/sys/user/max_user_namespaces")
                        .is_ok_and(|text| text.trim() == "0"),
                "no user namespaces".to_owned(),
            ),
            Need::Processors(count) => (
                sys::affinity().is_ok_and(|cpus| cpus.len() >= count),
                format!("fewer than {count} processors"),
            ),
            Need::Kernel(major, minor) => (
                kernel() >= (major, minor),
                format!("kernel older than {major}.{minor}"),
            ),
            Need::I386 => (has_i386(), "no calls of 32-bit programs".to_owned()),
            Need::HugePages => (
                Path::new("/sys/kernel/mm/hugepages/hugepages-2048kB").exists(),
                "no huge pages of 2 MiB".to_owned(),
            ),
            Need::Disk => (disk().is_some(), "no disk".to_owned()),
            Need::UnifiedTree => (
                Path::new("/sys/fs/cgroup/cgroup.controllers").exists(),
                "no cgroup v2 tree".to_owned(),
            ),
        };
        (!met).then_some(otherwise)
    }
}

/// The kernel's version.
fn kernel() -> (u32, u32) {
    let text = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = text
        .split(|c: char| !c.is_ascii_digit())
        .map(|word| word.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Tried in a child, which the kernel kills if it does not support them.
fn has_i386() -> bool {
    use nix::sys::wait::{WaitStatus, waitpid};
    match sys::fork() {
        Ok(nix::unistd::ForkResult::Child) => {
            std::process::exit(i32::from(sys::getpgrp_i386().is_err()))
        }
        Ok(nix::unistd::ForkResult::Parent { child }) => {
            matches!(waitpid(child, None), Ok(WaitStatus::Exited(_, 0)))
        }
        Err(_) => false,
    }
}

/// The numbers of a whole disk: not a loop, memory or mapped device.
pub fn disk() -> Option<(u64, u64)> {
    let mut names: Vec<_> = fs::read_dir("/sys/block")
        .ok()?
        .flatten()
        .filter(|entry| entry.path().join("device").exists())
        .collect();
    names.sort_by_key(|entry| entry.file_name());
    let text = fs::read_to_string(names.first()?.path().join("dev")).ok()?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
