//! The container's cgroup. Limits need a tree of v2 alone and are tested in a VM.

use std::fs;
use std::os::fd::AsFd;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde_json::json;

use crate::harness::{Container, can_run, cgroup2, new_cgroup, remove};

#[test]
fn killing_it_kills_all_and_its_events_say_so() {
    if !can_run() {
        return;
    }
    let mut running = Container::new("sleep 60 & sleep 60 & echo up; wait").start(&[], &[]);
    running.expect_line("up");
    let events = running.cgroup.events().unwrap();
    assert!(running.cgroup.populated().unwrap());
    let mut fds = [PollFd::new(events.as_fd(), PollFlags::POLLPRI)];
    // The first poll only tells that nothing was read yet.
    poll(&mut fds, PollTimeout::ZERO).unwrap();
    running.cgroup.kill().unwrap();
    let outcome = running.finish();
    let killed = nix::sys::signal::Signal::SIGKILL;
    assert!(
        matches!(outcome.status, nix::sys::wait::WaitStatus::Signaled(_, signal, _) if signal == killed),
        "{outcome:?}"
    );
}

#[test]
fn it_is_found_again_by_its_name() {
    if !can_run() {
        return;
    }
    let mut running = Container::new("echo up; sleep 60").start(&[], &[]);
    running.expect_line("up");
    let parent = fs::File::open(cgroup2()).unwrap();
    let again = runtime::cgroup::open(parent.as_fd(), running.cgroup.name()).unwrap();
    assert!(again.populated().unwrap());
    again.freeze(true).unwrap();
    again.freeze(false).unwrap();
    again.kill().unwrap();
    running.finish();
}

#[test]
fn cgroups_that_the_container_made_are_removed_with_it() {
    if !can_run() {
        return;
    }
    let cgroup = new_cgroup(&Default::default());
    let path = cgroup2().join(cgroup.name());
    fs::create_dir_all(path.join("a/b")).unwrap();
    fs::create_dir(path.join("c")).unwrap();
    remove(&cgroup);
    assert!(!path.exists());
    // Removing it again is no error.
    cgroup.remove().unwrap();
}

#[test]
fn a_limit_that_the_kernel_does_not_have_is_an_error_that_names_the_field() {
    if !can_run() {
        return;
    }
    let cgroup = new_cgroup(&Default::default());
    let resources =
        serde_json::from_value(json!({ "unified": { "memory.nothing": "1" } })).unwrap();
    let text = cgroup.update(&resources).unwrap_err().to_string();
    assert!(
        text.contains("linux.resources.unified[memory.nothing]"),
        "{text}"
    );
    cgroup.remove().unwrap();
}
