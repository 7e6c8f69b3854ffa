//! The runtime is killed at some point: whatever it leaves can be deleted.

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use crate::harness::{Box, can_run, until};

/// The processes of a cgroup and of those below it.
fn processes(container: &Box) -> Vec<String> {
    container
        .cgroup()
        .and_then(|cgroup| fs::read_to_string(cgroup.join("cgroup.procs")).ok())
        .map(|text| text.lines().map(String::from).collect())
        .unwrap_or_default()
}

#[test]
fn after_a_crash_at_any_point_delete_clears_everything_away() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    let commands: [&[&str]; 2] = [
        &["create", "--bundle", "BUNDLE", "ID"],
        &["run", "--bundle", "BUNDLE", "ID"],
    ];
    // A debug build takes some 20 ms; steps of half a millisecond meet all that it
    // does. On a loaded machine it takes longer: the steps go on until some of them
    // have left something to delete.
    let mut left = 0;
    let mut step = 0;
    while step < 60 || left < 5 {
        assert!(step < 2000, "{left} of {step} crashes left something");
        let mut runtime = container
            .command(commands[step % 2])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(500 * step as u64));
        runtime.kill().unwrap();
        runtime.wait().unwrap();
        left += usize::from(container.state_folder().exists());
        // Whatever it is, it can be listed.
        container.must(&["list"]);
        container.must(&["delete", "--force", "ID"]);
        assert!(!container.state_folder().exists(), "step {step}");
        assert_eq!(processes(&container), Vec::<String>::new(), "step {step}");
        step += 1;
    }
    // And the id is free.
    container.create();
    assert_eq!(container.status(), "created");
}

#[test]
fn a_container_whose_maker_was_killed_before_it_wrote_anything_can_be_deleted() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    fs::create_dir_all(container.state_folder()).unwrap();
    assert!(
        container
            .refused(&["state", "ID"])
            .contains("does not exist")
    );
    container.must(&["delete", "ID"]);
    assert!(!container.state_folder().exists());
}

#[test]
fn a_state_that_cannot_be_read_is_deleted_by_force_only() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    fs::create_dir_all(container.state_folder()).unwrap();
    fs::write(container.state_folder().join("state.json"), "{ \"format\":").unwrap();
    container.refused(&["delete", "ID"]);
    assert!(container.state_folder().exists());
    container.must(&["delete", "--force", "ID"]);
    assert!(!container.state_folder().exists());
}

#[test]
fn the_container_lives_on_when_its_foreground_runtime_is_killed() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    let mut runtime = container
        .command(&["run", "--bundle", "BUNDLE", "ID"])
        .spawn()
        .unwrap();
    until(|| {
        container.state_folder().join("state.json").exists() && container.status() == "running"
    });
    runtime.kill().unwrap();
    runtime.wait().unwrap();
    assert_eq!(container.status(), "running");
    assert_eq!(container.must(&["exec", "ID", "echo", "alive"]), "alive\n");
}
