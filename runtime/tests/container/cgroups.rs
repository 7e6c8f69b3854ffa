//! The container's cgroup. Limits need a pure v2 tree and are tested in a VM.

use std::fs;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use runtime::cgroup::Hierarchy;
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
    // The first poll only reports that nothing was read yet.
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
    // Removing it again is not an error.
    cgroup.remove().unwrap();
}

/// A path that no other test has, below the mount.
fn new_path(name: &str) -> PathBuf {
    PathBuf::from(format!("runtime-test-{name}-{}", std::process::id()))
}

#[test]
fn a_path_is_made_with_all_above_it_and_found_again() {
    if !can_run() {
        return;
    }
    let tree = Hierarchy::find().unwrap();
    assert_eq!(tree.mount_point(), cgroup2());
    let top = new_path("path");
    let asked = Path::new("/").join(&top).join("a/name");
    let path = tree.resolve(Some(&asked), "ignored").unwrap();
    assert_eq!(path, top.join("a/name"));
    let cgroup = tree.create(&path, &Default::default()).unwrap();
    let directory = cgroup2().join(&path);
    assert_eq!(cgroup.path(), Some(directory.as_path()));
    assert!(directory.is_dir());
    // What the tree can delegate arrives.
    let controllers = |path: &Path| fs::read_to_string(path.join("cgroup.controllers")).unwrap();
    assert_eq!(controllers(&directory), controllers(&cgroup2()));
    let again = tree.open(&path).unwrap();
    assert!(!again.populated().unwrap());
    assert!(again.processes().unwrap().is_empty());
    // Those above belong to no container.
    again.remove().unwrap();
    assert!(!directory.exists());
    assert!(cgroup2().join(&top).join("a").exists());
    fs::remove_dir(cgroup2().join(&top).join("a")).unwrap();
    fs::remove_dir(cgroup2().join(&top)).unwrap();
}

#[test]
fn what_was_made_is_removed_when_a_limit_cannot_be_set() {
    if !can_run() {
        return;
    }
    let tree = Hierarchy::find().unwrap();
    let top = new_path("undone");
    let resources =
        serde_json::from_value(json!({ "unified": { "memory.nothing": "1" } })).unwrap();
    let text = tree
        .create(&top.join("a/b"), &resources)
        .unwrap_err()
        .to_string();
    assert!(
        text.contains("linux.resources.unified[memory.nothing]"),
        "{text}"
    );
    assert!(!cgroup2().join(&top).exists());
}

#[test]
fn a_cgroup_with_processes_or_a_frozen_one_is_no_place_for_a_container() {
    if !can_run() {
        return;
    }
    let mut running = Container::new("echo up; sleep 60").start(&[], &[]);
    running.expect_line("up");
    let tree = Hierarchy::find().unwrap();
    let path = Path::new(running.cgroup.name());
    let refusal = || {
        let refused = tree.create(path, &Default::default());
        refused.unwrap_err().to_string()
    };
    let text = refusal();
    assert!(text.contains("holds processes already"), "{text}");
    // It is left as it was.
    assert!(running.cgroup.populated().unwrap());
    running.cgroup.kill().unwrap();
    running.finish();

    let empty = new_cgroup(&Default::default());
    empty.freeze(true).unwrap();
    let text = tree
        .create(Path::new(empty.name()), &Default::default())
        .unwrap_err()
        .to_string();
    assert!(text.contains("frozen"), "{text}");
    empty.remove().unwrap();
}

#[test]
fn a_threaded_cgroup_is_refused_with_what_to_do() {
    if !can_run() {
        return;
    }
    let tree = Hierarchy::find().unwrap();
    let top = new_path("threaded");
    let directory = cgroup2().join(&top);
    fs::create_dir_all(directory.join("a")).unwrap();
    fs::write(directory.join("a/cgroup.type"), "threaded").unwrap();
    for path in ["a", "b"] {
        let refused = tree.create(&top.join(path), &Default::default());
        let text = refused.unwrap_err().to_string();
        assert!(text.contains("threaded"), "{text}");
        assert!(text.contains("linux.cgroupsPath"), "{text}");
    }
    assert!(!directory.join("b").exists());
    fs::remove_dir(directory.join("a")).unwrap();
    fs::remove_dir(directory).unwrap();
}

#[test]
fn pausing_waits_until_all_stand_still_and_resuming_until_they_go_on() {
    if !can_run() {
        return;
    }
    let script = "echo up; while true; do :; done & while true; do sleep 0.01; done";
    let mut running = Container::new(script).start(&[], &[]);
    running.expect_line("up");
    for _ in 0..3 {
        running.cgroup.pause().unwrap();
        assert!(running.cgroup.frozen().unwrap());
        running.cgroup.resume().unwrap();
        assert!(!running.cgroup.frozen().unwrap());
    }
    // A paused one can be killed.
    running.cgroup.pause().unwrap();
    running.cgroup.kill().unwrap();
    running.finish();
}

#[test]
fn its_processes_are_listed_with_those_in_cgroups_below() {
    if !can_run() {
        return;
    }
    let mut running = Container::new("sleep 60 & sleep 60 & echo up; wait").start(&[], &[]);
    running.expect_line("up");
    let processes = running.cgroup.processes().unwrap();
    assert_eq!(processes.len(), 3, "{processes:?}");
    assert!(processes.contains(&running.started.pid));
    let below = cgroup2().join(running.cgroup.name()).join("below");
    fs::create_dir(&below).unwrap();
    let moved = processes.iter().find(|pid| **pid != running.started.pid);
    fs::write(below.join("cgroup.procs"), moved.unwrap().to_string()).unwrap();
    assert_eq!(running.cgroup.processes().unwrap(), processes);
    running.cgroup.kill().unwrap();
    running.finish();
    assert!(!below.exists());
}

#[test]
fn its_statistics_are_there_without_controllers_too() {
    if !can_run() {
        return;
    }
    let mut running =
        Container::new("i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; echo up; sleep 60")
            .start(&[], &[]);
    running.expect_line("up");
    let statistics = running.cgroup.statistics().unwrap();
    // cpu.stat has the time in each cgroup, controller or not.
    assert!(statistics.cpu.usage.total > 0, "{statistics:?}");
    let usage = &statistics.cpu.usage;
    assert!(usage.user + usage.kernel <= usage.total + 1000, "{usage:?}");
    running.cgroup.kill().unwrap();
    running.finish();
}

#[test]
fn device_rules_stay_when_an_update_names_none_and_change_when_it_does() {
    if !can_run() {
        return;
    }
    let rules = |allow| {
        json!({ "devices": [
            { "allow": allow, "type": "c", "major": 1, "minor": 11, "access": "rwm" },
        ] })
    };
    let syslog = json!(["CAP_SYSLOG"]);
    let mut running = Container::new("echo up; sleep 60")
        .set(
            "/linux/devices",
            json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]),
        )
        .set("/linux/resources", rules(true))
        .set(
            "/process/capabilities",
            json!({ "bounding": syslog, "permitted": syslog, "effective": syslog }),
        )
        .start(&[], &[]);
    running.expect_line("up");
    let open_after = |update| {
        let resources = serde_json::from_value(update).unwrap();
        running.cgroup.update(&resources).unwrap();
        let script = "if (exec 3< /dev/kmsg) 2>/dev/null; then echo open; else echo closed; fi";
        running.exec(script).success()
    };
    assert_eq!(open_after(json!({ "pids": { "limit": -1 } })), "open\n");
    assert_eq!(open_after(json!({ "devices": [] })), "open\n");
    assert_eq!(open_after(rules(false)), "closed\n");
    assert_eq!(open_after(json!({ "devices": [] })), "closed\n");
    running.cgroup.kill().unwrap();
    running.finish();
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

/// Hostile: a container leaves a tree of cgroups that is deeper and wider than its keeper has descriptors. Outcome: it is listed and removed with a few of them.
#[test]
fn a_tree_of_any_depth_and_width_is_listed_and_removed() {
    if !can_run() {
        return;
    }
    let cgroup = new_cgroup(&Default::default());
    let path = cgroup2().join(cgroup.name());
    let mut deep = path.clone();
    for _ in 0..400 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
    }
    for index in 0..1100 {
        fs::create_dir(path.join(format!("w{index}"))).unwrap();
    }
    assert_eq!(cgroup.processes().unwrap(), []);
    remove(&cgroup);
    assert!(!path.exists());
}
