//! Starts the bundle in a directory and waits for it: `start BUNDLE-DIR
//! [CGROUP-DIR]`.
//!
//! The container gets the caller's standard descriptors, and a cgroup of its
//! own below CGROUP-DIR (default `/sys/fs/cgroup`). For trying things by hand.

use std::error::Error;
use std::fs::File;
use std::io::{stderr, stdin, stdout};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::wait::waitpid;
use oci_spec::runtime::{LinuxResources, Spec};
use runtime::{Setup, Start, Stdio, cgroup, prepare, setup_outcome};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let bundle = arguments
        .next()
        .ok_or("usage: start BUNDLE-DIR [CGROUP-DIR]")?;
    let parent = arguments.next().unwrap_or("/sys/fs/cgroup".into());
    let mut spec = Spec::load(bundle.join("config.json"))?;
    spec.canonicalize_rootfs(&bundle)?;

    let begin = Instant::now();
    let prepared = prepare(&spec)?;
    let checked = begin.elapsed();
    let none = LinuxResources::default();
    let resources = spec
        .linux()
        .as_ref()
        .and_then(|linux| linux.resources().as_ref());
    let name = format!("example-{}", std::process::id());
    let cgroup = cgroup::create(
        File::open(parent)?.as_fd(),
        &name,
        resources.unwrap_or(&none),
    )?;
    let limited = begin.elapsed();
    let started = prepared.start(Start {
        cgroup: Some(cgroup.fd()),
        stdio: Stdio {
            stdin: stdin().as_fd(),
            stdout: stdout().as_fd(),
            stderr: stderr().as_fd(),
        },
        listen: &[],
        passed: &[],
        env: &[],
        lifecycle: None,
    })?;
    let cloned = begin.elapsed();
    poll(
        &mut [PollFd::new(started.setup.as_fd(), PollFlags::POLLIN)],
        PollTimeout::NONE,
    )?;
    let executed = begin.elapsed();
    if let Setup::Failed(error) = setup_outcome(started.setup.as_fd())? {
        eprintln!("{error}");
    }
    let status = waitpid(started.pid, None)?;
    cgroup.remove()?;
    eprintln!(
        "{status:?}; checked {checked:?}, cgroup {limited:?}, cloned {cloned:?}, executed {executed:?}, gone {:?}",
        begin.elapsed()
    );
    Ok(())
}
