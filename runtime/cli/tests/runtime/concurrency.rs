//! Commands at the same time.

use std::process::{Child, Stdio};

use crate::harness::{Box, can_run};

fn spawn(container: &Box, arguments: &[&str]) -> Child {
    container
        .command(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn successes(children: Vec<Child>) -> usize {
    children
        .into_iter()
        .map(|mut child| child.wait().unwrap())
        .filter(|status| status.success())
        .count()
}

#[test]
fn of_several_that_make_one_container_one_makes_it() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    let create = ["create", "--bundle", "BUNDLE", "ID"];
    let children = (0..8).map(|_| spawn(&container, &create)).collect();
    assert_eq!(successes(children), 1);
    assert_eq!(container.status(), "created");
    let children = (0..8)
        .map(|_| spawn(&container, &["start", "ID"]))
        .collect();
    assert_eq!(successes(children), 1);
    assert_eq!(container.status(), "running");
}

#[test]
fn whoever_deletes_a_container_it_is_gone_at_the_end() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    for _ in 0..5 {
        container.create();
        container.must(&["start", "ID"]);
        let children = (0..6)
            .map(|_| spawn(&container, &["delete", "--force", "ID"]))
            .collect();
        // With force, one that is already gone is no error.
        assert_eq!(successes(children), 6);
        assert!(!container.state_folder().exists());
        assert_eq!(container.cgroup(), None);
    }
}

#[test]
fn making_and_deleting_at_once_leaves_nothing_half_made() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    for _ in 0..10 {
        let create = spawn(&container, &["create", "--bundle", "BUNDLE", "ID"]);
        let delete = spawn(&container, &["delete", "--force", "ID"]);
        successes(vec![delete]);
        let made = successes(vec![create]) == 1;
        // Every container reported as created exists, unless it was deleted
        // after that.
        if made && container.state_folder().exists() {
            assert_eq!(container.status(), "created");
        }
        container.must(&["delete", "--force", "ID"]);
        assert!(!container.state_folder().exists());
        assert_eq!(container.cgroup(), None);
    }
}

/// Hostile: two creates and two forced deletes of one id at the same time, again and again. Outcome: no process, no cgroup and no folder is left without the others, and the id stays usable.
#[test]
fn two_creators_and_two_deleters_leave_no_orphan() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    let create = ["create", "--bundle", "BUNDLE", "ID"];
    let delete = ["delete", "--force", "ID"];
    for round in 0..40 {
        let all: Vec<Child> = [create, create]
            .iter()
            .map(|arguments| spawn(&container, arguments))
            .chain((0..2).map(|_| spawn(&container, &delete)))
            .collect();
        successes(all);
        container.must(&delete);
        assert!(!container.state_folder().exists(), "round {round}");
        assert_eq!(container.cgroup(), None, "round {round}");
    }
    container.create();
}
