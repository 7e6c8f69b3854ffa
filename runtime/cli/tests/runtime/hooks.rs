//! Hooks of the runtime's namespaces: when they run, and the effect of their
//! failure.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Box, can_run};

/// A hook that appends its name and its state to a file, and ends with this code.
fn hook(file: &Path, name: &str, code: i32) -> Value {
    let script = format!(
        "printf '{name} ' >>{0}; cat >>{0}; echo >>{0}; exit {code}",
        file.display()
    );
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] })
}

fn ran(file: &Path) -> Vec<(String, Value)> {
    fs::read_to_string(file)
        .unwrap_or_default()
        .lines()
        .map(|line| {
            let (name, state) = line.split_once(' ').unwrap();
            (name.to_string(), serde_json::from_str(state).unwrap())
        })
        .collect()
}

fn with_hooks(codes: [(&str, i32); 4]) -> (Box, PathBuf) {
    let container = Box::new("sleep 100");
    let file = container.folder.path().join("hooks");
    let hooks: serde_json::Map<String, Value> = codes
        .iter()
        .map(|(name, code)| {
            let named = hook(&file, name, *code);
            let second = hook(&file, &format!("{name}-2"), 0);
            (name.to_string(), json!([named, second]))
        })
        .collect();
    (container.set("/hooks", Value::Object(hooks)), file)
}

#[test]
fn hooks_run_in_their_order_with_the_state_of_their_time() {
    if !can_run() {
        return;
    }
    let names = ["prestart", "createRuntime", "poststart", "poststop"];
    let (container, file) = with_hooks(names.map(|name| (name, 0)));
    container.create();
    let pid = container.state()["pid"].clone();
    let after_create = ran(&file);
    container.must(&["start", "ID"]);
    let after_start = ran(&file);
    assert_eq!((after_create.len(), after_start.len()), (4, 6));
    container.must(&["delete", "--force", "ID"]);
    let all = ran(&file);
    let order: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        order,
        [
            "prestart",
            "prestart-2",
            "createRuntime",
            "createRuntime-2",
            "poststart",
            "poststart-2",
            "poststop",
            "poststop-2",
        ]
    );
    for (name, state) in &all {
        let status = match name.split('-').next().unwrap() {
            "poststart" => "running",
            "poststop" => "stopped",
            _ => "creating",
        };
        assert_eq!(state["status"], status, "{name}");
        assert_eq!(state["id"], container.id.as_str());
        assert_eq!(state["annotations"], json!({ "test": "yes" }));
        if status != "stopped" {
            assert_eq!(state["pid"], pid, "{name}");
        }
    }
}

#[test]
fn a_create_hook_that_fails_ends_the_container() {
    if !can_run() {
        return;
    }
    for failing in ["prestart", "createRuntime"] {
        let names = ["prestart", "createRuntime", "poststart", "poststop"];
        let codes = names.map(|name| (name, i32::from(name == failing)));
        let (container, file) = with_hooks(codes);
        let text = container
            .begin(&["create", "--bundle", "BUNDLE", "ID"])
            .unwrap_err();
        assert!(text.contains(failing), "{text}");
        assert!(!container.state_folder().exists());
        assert_eq!(container.cgroup(), None);
        // Those after it have not run, and those of its end have.
        let all = ran(&file);
        let order: Vec<&str> = all.iter().map(|(name, _)| name.as_str()).collect();
        let end = &order[order.len() - 3..];
        assert_eq!(end, [failing, "poststop", "poststop-2"]);
    }
}

#[test]
fn later_hooks_that_fail_are_told_and_change_nothing() {
    if !can_run() {
        return;
    }
    let names = ["prestart", "createRuntime", "poststart", "poststop"];
    let codes = names.map(|name| (name, i32::from(name.starts_with("post"))));
    let (container, file) = with_hooks(codes);
    container.create();
    let output = container.run(&["start", "ID"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("poststart"));
    assert_eq!(container.status(), "running");
    let output = container.run(&["delete", "--force", "ID"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("poststop"));
    assert!(!container.state_folder().exists());
    // Including the one after the one that failed.
    assert_eq!(ran(&file).last().unwrap().0, "poststop-2");
}

#[test]
fn a_hook_may_ask_for_the_state() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    let file = container.folder.path().join("state");
    let script = format!(
        "{} --root {} state {} >{}",
        env!("CARGO_BIN_EXE_wherry-runtime"),
        container.root().display(),
        container.id,
        file.display()
    );
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "timeout": 10 });
    let container = container.set("/hooks", json!({ "createRuntime": [hook] }));
    container.create();
    let state: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(state["status"], "creating");
    assert_eq!(state["pid"], container.state()["pid"]);
}
