//! runtime.md, State and Query State.

use serde_json::{Value, json};

use crate::bench::{Bench, text};
use crate::clause::{Check, Clause, command_line, demand, must};
use crate::probe::Step;

pub const CLAUSES: &[Clause] = &[
    must(
        "runtime.md#state",
        "the state of a created container has ociVersion, id, status, pid and bundle",
        &[],
        all_properties,
    ),
    must(
        "runtime.md#state ociVersion",
        "ociVersion is a version in SemVer format",
        &[],
        version_is_semver,
    ),
    must(
        "runtime.md#state pid",
        "pid is the container process's pid as the runtime sees it",
        &[],
        pid_is_the_process,
    ),
    must(
        "runtime.md#state bundle",
        "bundle is absolute even if create was given a relative path",
        &[],
        bundle_is_absolute,
    ),
    must(
        "runtime.md#state annotations",
        "annotations are the configuration's",
        &[],
        annotations_are_kept,
    ),
    must(
        "runtime.md#state annotations",
        "without annotations the property is absent or empty",
        &[],
        no_annotations,
    ),
    must(
        "runtime.md#state status",
        "the status is created, then running, then stopped",
        &[],
        status_follows_the_lifecycle,
    ),
    must(
        "runtime.md#query-state",
        "without an id: an error",
        &[],
        no_id,
    ),
    must(
        "runtime.md#query-state",
        "for a container that does not exist: an error",
        &[],
        unknown_id,
    ),
    must(
        "runtime.md#query-state",
        "after delete the container does not exist",
        &[],
        deleted_id,
    ),
    command_line(
        "command line: list",
        "list --format json has id, pid, status and bundle of each container",
        &[],
        listed,
    ),
    command_line(
        "command line: list",
        "list --quiet prints one id per line",
        &[],
        listed_quietly,
    ),
];

fn all_properties(bench: &Bench) -> Check {
    let container = bench.create(&bench.bundle()?)?;
    let output = bench.must(&["state", &container.id])?;
    let state: Value = serde_json::from_str(&output.stdout)?;
    for key in ["ociVersion", "id", "status", "bundle"] {
        demand!(!text(&state, key).is_empty(), "no {key} in {state}");
    }
    demand!(state["pid"].is_i64(), "no pid in {state}");
    demand!(
        text(&state, "id") == container.id,
        "the id is {}",
        state["id"]
    );
    let typed: Result<oci_spec::runtime::State, _> = serde_json::from_str(&output.stdout);
    demand!(typed.is_ok(), "it does not follow the schema: {typed:?}");
    Ok(())
}

fn version_is_semver(bench: &Bench) -> Check {
    let container = bench.create(&bench.bundle()?)?;
    let state = container.state()?;
    let version = text(&state, "ociVersion");
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let numbers: Vec<_> = core.split('.').map(str::parse::<u32>).collect();
    demand!(
        numbers.len() == 3 && numbers.iter().all(Result::is_ok),
        "ociVersion is {version:?}"
    );
    Ok(())
}

fn pid_is_the_process(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    let pid = container.state()?["pid"].as_i64().unwrap_or(0);
    let command = std::fs::read(format!("/proc/{pid}/cmdline"))?;
    demand!(
        command.starts_with(b"/probe\0"),
        "process {pid} is {:?}",
        String::from_utf8_lossy(&command)
    );
    demand!(
        i64::from(container.pid.as_raw()) == pid,
        "the pid file says {}, the state {pid}",
        container.pid
    );
    Ok(())
}

fn bundle_is_absolute(bench: &Bench) -> Check {
    let bundle = bench.bundle()?;
    bundle.save()?;
    let name = bundle.folder().file_name().unwrap_or_default();
    let id = bench.id();
    let relative = name.to_string_lossy();
    bench.must(&["create", "--bundle", &relative, &id])?;
    let state: Value = serde_json::from_str(&bench.must(&["state", &id])?.stdout)?;
    let said = text(&state, "bundle");
    demand!(
        std::path::Path::new(said) == bundle.folder(),
        "bundle is {said}, not {}",
        bundle.folder().display()
    );
    Ok(())
}

fn annotations_are_kept(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let wanted = json!({ "org.example.a": "one \"quoted\"", "org.example.empty": "" });
    bundle.set("/annotations", wanted.clone());
    let container = bench.create(&bundle)?;
    let state = container.state()?;
    demand!(
        state["annotations"] == wanted,
        "annotations are {}",
        state["annotations"]
    );
    Ok(())
}

fn no_annotations(bench: &Bench) -> Check {
    let container = bench.create(&bench.bundle()?)?;
    let state = container.state()?;
    let empty = match &state["annotations"] {
        Value::Null => true,
        Value::Object(map) => map.is_empty(),
        _ => false,
    };
    demand!(empty, "annotations are {}", state["annotations"]);
    Ok(())
}

fn status_follows_the_lifecycle(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Await("/go".to_owned())]);
    let container = bench.create(&bundle)?;
    let status = container.status()?;
    demand!(status == "created", "after create it is {status}");
    container.start()?;
    let status = container.status()?;
    demand!(status == "running", "after start it is {status}");
    bundle.file("/go", "")?;
    container.wait()?;
    let status = container.status()?;
    demand!(status == "stopped", "after its end it is {status}");
    Ok(())
}

fn no_id(bench: &Bench) -> Check {
    bench.refused(&["state"])?;
    Ok(())
}

fn unknown_id(bench: &Bench) -> Check {
    let message = bench.refused(&["state", "conformance-nobody"])?;
    demand!(!message.trim().is_empty(), "it gave no message");
    Ok(())
}

fn deleted_id(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[]);
    let container = bench.start(&bundle)?;
    container.wait()?;
    container.delete()?;
    bench.refused(&["state", &container.id])?;
    Ok(())
}

fn listed(bench: &Bench) -> Check {
    let bundle = bench.bundle()?;
    let container = bench.create(&bundle)?;
    let output = bench.must(&["list", "--format", "json"])?;
    let list: Value = serde_json::from_str(&output.stdout)?;
    let entry = list
        .as_array()
        .and_then(|list| list.iter().find(|entry| text(entry, "id") == container.id))
        .cloned()
        .unwrap_or_default();
    demand!(
        text(&entry, "status") == "created"
            && entry["pid"] == container.pid.as_raw()
            && text(&entry, "bundle") == bundle.folder().to_string_lossy(),
        "the list is {list}"
    );
    Ok(())
}

fn listed_quietly(bench: &Bench) -> Check {
    let first = bench.create(&bench.bundle()?)?;
    let second = bench.create(&bench.bundle()?)?;
    let output = bench.must(&["list", "--quiet"])?;
    let lines: Vec<&str> = output.stdout.lines().map(str::trim).collect();
    demand!(
        lines.len() == 2
            && lines.contains(&first.id.as_str())
            && lines.contains(&second.id.as_str()),
        "it printed {:?}",
        output.stdout
    );
    Ok(())
}
