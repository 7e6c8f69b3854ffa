//! The runtime is killed at some point: whatever it leaves can be deleted.

use std::fs;
use std::process::{Command, Output, Stdio};
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

#[test]
fn the_id_of_a_maker_that_was_killed_before_it_wrote_anything_is_free() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    fs::create_dir_all(container.state_folder()).unwrap();
    container.create();
    assert_eq!(container.status(), "created");
}

/// Runs the runtime with no more than this number of descriptors.
fn with_descriptors(limit: u32, container: &Box, arguments: &[&str]) -> Output {
    let runtime = container.command(arguments);
    Command::new("sh")
        .args(["-c", &format!("ulimit -n {limit}; exec \"$@\""), "sh"])
        .arg(runtime.get_program())
        .args(runtime.get_args())
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn a_creator_without_descriptors_leaves_no_cgroup() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    let mut failed = 0;
    for limit in 4..24 {
        let output = with_descriptors(limit, &container, &["run", "--bundle", "BUNDLE", "ID"]);
        failed += u32::from(!output.status.success());
        assert_eq!(container.cgroup(), None, "with {limit}: {output:?}");
        assert!(!container.state_folder().exists(), "with {limit}");
    }
    assert!((5..20).contains(&failed), "{failed} of 20 failed");
}

/// Hostile: a container leaves more cgroups, wider and deeper, than its deleter may have descriptors. Outcome: all are removed.
#[test]
fn a_tree_of_cgroups_is_removed_with_few_descriptors() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    container.create();
    let cgroup = container.cgroup().unwrap();
    let mut deep = cgroup.clone();
    for index in 0..100 {
        deep.push("d");
        fs::create_dir(&deep).unwrap();
        fs::create_dir(cgroup.join(format!("w{index}"))).unwrap();
    }
    let output = with_descriptors(24, &container, &["delete", "--force", "ID"]);
    assert!(output.status.success(), "{output:?}");
    assert!(!cgroup.exists());
}
