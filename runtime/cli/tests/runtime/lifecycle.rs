//! Create, start, kill, delete, state, list, pause.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use machine::Tools;
use serde_json::{Value, json};

use crate::harness::{Box, can_run, is_alive, until};

#[test]
fn a_created_container_runs_its_program_only_when_it_is_started() {
    if !can_run() {
        return;
    }
    let container = Box::new("echo ran; read line </tmp/none; sleep 100");
    container.create();
    let state = container.state();
    assert_eq!(state["status"], "created");
    assert_eq!(state["ociVersion"], "1.2.0");
    assert_eq!(state["id"], container.id.as_str());
    assert_eq!(state["annotations"], json!({ "test": "yes" }));
    assert_eq!(state["owner"], "root");
    let bundle = fs::canonicalize(container.folder.path()).unwrap();
    assert_eq!(state["bundle"], bundle.to_str().unwrap());
    assert_eq!(state["rootfs"], bundle.join("rootfs").to_str().unwrap());
    assert!(is_alive(state["pid"].as_i64().unwrap()));
    assert_eq!(container.output(), "");

    container.must(&["start", "ID"]);
    until(|| container.output().contains("ran"));
    assert_eq!(container.status(), "running");
    let again = container.refused(&["start", "ID"]);
    assert!(again.contains("running"), "{again}");

    let early = container.refused(&["delete", "ID"]);
    assert!(early.contains("is not stopped"), "{early}");
    container.must(&["kill", "ID", "KILL"]);
    container.wait_for("stopped");
    assert_eq!(container.state()["pid"], 0);
    let dead = container.refused(&["kill", "ID", "TERM"]);
    assert!(dead.contains("container not running"), "{dead}");
    container.must(&["kill", "--all", "ID", "KILL"]);

    container.must(&["delete", "ID"]);
    assert!(!container.state_folder().exists());
    assert_eq!(container.cgroup(), None);
    for command in ["state", "start", "kill", "delete", "pause", "ps"] {
        let gone = container.refused(&[command, "ID"]);
        assert!(
            gone.contains("container does not exist"),
            "{command}: {gone}"
        );
    }
    container.must(&["delete", "--force", "ID"]);
}

#[test]
fn an_id_can_be_used_again_and_not_twice() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    container.create();
    let pid = container.state()["pid"].clone();
    let twice = container
        .begin(&["create", "--bundle", "BUNDLE", "ID"])
        .unwrap_err();
    assert!(twice.contains("already exists"), "{twice}");
    assert_eq!(container.state()["pid"], pid);
    // One that was never started needs no force.
    container.must(&["delete", "ID"]);
    until(|| !is_alive(pid.as_i64().unwrap()));
    container.create();
    assert_eq!(container.status(), "created");
}

#[test]
fn the_configuration_counts_as_it_was_when_the_container_was_made() {
    if !can_run() {
        return;
    }
    let mut container = Box::new("echo first; sleep 100");
    container.create();
    container.spec["process"]["args"] = json!(["sh", "-c", "echo second"]);
    container.spec["process"]["env"] = json!(["PATH=/nowhere"]);
    container.must(&["start", "ID"]);
    until(|| container.output() == "first\n");
    assert_eq!(
        container.must(&["exec", "ID", "sh", "-c", "echo $PATH"]),
        "/usr/bin:/bin\n"
    );
}

#[test]
fn a_reused_number_is_not_taken_for_the_process() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    container.create();
    container.must(&["start", "ID"]);
    let path = container.state_folder().join("state.json");
    let mut state: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    let pid = state["process"]["pid"].as_i64().unwrap();
    // This test's own process, which is not what was started then.
    state["process"]["pid"] = json!(std::process::id());
    fs::write(&path, state.to_string()).unwrap();
    assert_eq!(container.status(), "stopped");
    container.refused(&["kill", "ID", "KILL"]);
    // Its real process is in its cgroup.
    container.must(&["delete", "ID"]);
    until(|| !is_alive(pid));
}

#[test]
fn the_list_shows_every_container() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    assert_eq!(container.must(&["list", "--format", "json"]), "[]\n");
    container.create();
    assert_eq!(
        container.must(&["list", "-q"]),
        format!("{}\n", container.id)
    );
    let json: Value = serde_json::from_str(&container.must(&["list", "-f", "json"])).unwrap();
    assert_eq!(json, json!([container.state()]));
    let table = container.must(&["list"]);
    let (head, row) = table.split_once('\n').unwrap();
    let columns = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];
    assert_eq!(head.split_whitespace().collect::<Vec<_>>(), columns);
    assert_eq!(row.split_whitespace().nth(2), Some("created"));
    // Columns stand below each other.
    assert_eq!(head.find("STATUS"), row.find("created"));
}

#[test]
fn states_are_their_owners_alone() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    container.create();
    for folder in [container.root(), container.state_folder()] {
        let mode = fs::metadata(&folder).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o700, "{}", folder.display());
    }
}

#[test]
fn a_paused_container_stands_still_and_goes_on() {
    if !can_run() {
        return;
    }
    let container = Box::new("while :; do echo x; sleep 0.01; done");
    container.create();
    container.must(&["start", "ID"]);
    container.must(&["pause", "ID"]);
    assert_eq!(container.status(), "paused");
    let length = container.output().len();
    let refused = container.run(&["exec", "ID", "true"]);
    assert_eq!(refused.status.code(), Some(255));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("paused"));
    assert!(container.refused(&["pause", "ID"]).contains("paused"));
    assert_eq!(container.output().len(), length);
    container.must(&["resume", "ID"]);
    until(|| container.output().len() > length);
    assert!(container.refused(&["resume", "ID"]).contains("not paused"));
    container.must(&["pause", "ID"]);
    container.must(&["delete", "--force", "ID"]);
    assert_eq!(container.cgroup(), None);
}

/// A folder in which `ps` is the tools tree's, where `cargo xtask test` says that
/// there is one; a small Debian has none of its own.
fn tools_with_ps(scratch: &Path) -> Option<PathBuf> {
    let build = PathBuf::from(std::env::var_os("WHERRY_BUILD")?);
    let ps = Tools::at(build.join("tools")).command("ps").ok()?;
    let words: Vec<String> = std::iter::once(ps.get_program())
        .chain(ps.get_args())
        .map(|word| format!("'{}'", word.display()))
        .collect();
    let folder = scratch.join("tools");
    fs::create_dir(&folder).unwrap();
    // Written by another process: a program that is open for writing in this one
    // may be so in a child of another test too, and then cannot be executed.
    let written = Command::new("sh")
        .args(["-c", "echo \"$1\" > ps && chmod 755 ps", "sh"])
        .arg(format!("#!/bin/sh\nexec {} \"$@\"", words.join(" ")))
        .current_dir(&folder)
        .status()
        .unwrap();
    assert!(written.success());
    Some(folder)
}

#[test]
fn processes_are_listed() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100 & sleep 100");
    container.create();
    container.must(&["start", "ID"]);
    until(|| {
        let pids = container.must(&["ps", "--format", "json", "ID"]);
        serde_json::from_str::<Vec<i64>>(&pids).unwrap().len() == 3
    });
    // Without -e a ps on a terminal lists that terminal's processes only.
    let mut listing = container.command(&["ps", "ID", "-eo", "pid,args"]);
    if let Some(folder) = tools_with_ps(container.folder.path()) {
        listing.env("PATH", format!("{}:/usr/bin:/bin", folder.display()));
    }
    let listing = listing.output().unwrap();
    assert!(listing.status.success(), "{listing:?}");
    let table = String::from_utf8(listing.stdout).unwrap();
    assert_eq!(
        table
            .lines()
            .filter(|line| line.ends_with("sleep 100"))
            .count(),
        3,
        "{table}"
    );
    assert!(table.starts_with("    PID") || table.trim_start().starts_with("PID"));
}

#[test]
fn statistics_are_one_object() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    container.create();
    let event: Value = serde_json::from_str(&container.must(&["events", "--stats", "ID"])).unwrap();
    assert_eq!(event["type"], "stats");
    assert_eq!(event["id"], container.id.as_str());
    assert!(event["data"]["cpu"]["usage"]["total"].is_u64(), "{event}");
}

#[test]
fn events_come_until_the_container_ends() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 0.5");
    container.create();
    container.must(&["start", "ID"]);
    let text = container.must(&["events", "--interval", "50ms", "ID"]);
    assert!(text.lines().count() >= 2, "{text}");
    for line in text.lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["type"], "stats");
    }
}
