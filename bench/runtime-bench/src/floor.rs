//! What the kernel takes: clone3 with a container's namespaces, and the program.

use crate::bundle::Bundles;
use crate::sys;
use anyhow::{Context, Result, ensure};
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitStatus, waitpid};
use std::ffi::CString;
use std::time::{Duration, Instant};

/// From the call until the program's end.
pub fn start(bundles: &Bundles) -> Result<Duration> {
    let program = CString::new(bundles.root().join("bin/true").display().to_string())?;
    let namespaces = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWCGROUP;
    let begin = Instant::now();
    let pid = sys::clone_and_execute(namespaces, &program).context("clone3")?;
    let status = waitpid(pid, None)?;
    let took = begin.elapsed();
    ensure!(
        matches!(status, WaitStatus::Exited(_, 0)),
        "the program ended with {status:?}"
    );
    Ok(took)
}
