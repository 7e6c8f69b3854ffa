//! runtime.md, Lifecycle and Operations.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::json;

use crate::bench::{Bench, Container, End, until};
use crate::clause::{Check, Clause, Try, command_line, demand, must};
use crate::needs::Need;
use crate::probe::Step;

pub const CLAUSES: &[Clause] = &[
    must(
        "runtime.md#lifecycle 2",
        "create creates the namespaces and does not run the program",
        &[],
        create_does_not_run,
    ),
    must(
        "runtime.md#lifecycle 2",
        "a configuration that cannot be realized is an error",
        &[],
        impossible_is_an_error,
    ),
    must(
        "runtime.md#lifecycle 2",
        "a change of config.json after create has no effect",
        &[],
        later_change_has_no_effect,
    ),
    must(
        "runtime.md#lifecycle 8",
        "start runs the program of process",
        &[],
        start_runs,
    ),
    must(
        "runtime.md#lifecycle 10",
        "when the process ends by itself, the container is stopped",
        &[],
        end_makes_stopped,
    ),
    must(
        "runtime.md#errors",
        "a create that fails leaves no state and no cgroup, and its id can be used",
        &[Need::UnifiedTree],
        failed_create_leaves_nothing,
    ),
    must(
        "runtime.md#errors",
        "a start that fails because the program is missing is an error of create or start",
        &[],
        missing_program,
    ),
    must(
        "runtime.md#create",
        "without a bundle: an error",
        &[],
        create_without_bundle,
    ),
    must(
        "runtime.md#create",
        "without an id: an error",
        &[],
        create_without_id,
    ),
    must(
        "runtime.md#create",
        "an id in use is an error, and the first container keeps running",
        &[],
        create_twice,
    ),
    must(
        "runtime.md#create",
        "an id that is a path or empty is an error",
        &[],
        odd_ids,
    ),
    must(
        "bundle.md",
        "a bundle without config.json is an error",
        &[],
        no_config,
    ),
    must(
        "bundle.md",
        "a config.json that is not a JSON object is an error",
        &[],
        broken_config,
    ),
    must(
        "runtime.md#create",
        "afterwards the status is created",
        &[],
        created_status,
    ),
    must(
        "runtime.md#start",
        "without an id, or for an unknown one: an error",
        &[],
        start_unknown,
    ),
    must(
        "runtime.md#start",
        "for a running container: an error without effect",
        &[],
        start_twice,
    ),
    must(
        "runtime.md#start",
        "for a stopped container: an error",
        &[],
        start_stopped,
    ),
    must(
        "config.md#process",
        "start without process in the configuration is an error",
        &[],
        start_without_process,
    ),
    must(
        "runtime.md#kill",
        "without an id, or for an unknown one: an error",
        &[],
        kill_unknown,
    ),
    must(
        "runtime.md#kill",
        "for a stopped container: an error",
        &[],
        kill_stopped,
    ),
    must(
        "runtime.md#kill",
        "the signal reaches the process, by name and by number",
        &[],
        kill_sends_the_signal,
    ),
    must(
        "runtime.md#kill",
        "a created container can be killed and is then stopped",
        &[],
        kill_created,
    ),
    command_line(
        "command line: kill",
        "names are accepted with and without SIG, in any case; the default is SIGTERM",
        &[],
        signal_names,
    ),
    command_line(
        "command line: kill",
        "a signal that does not exist is an error",
        &[],
        unknown_signal,
    ),
    command_line(
        "command line: kill",
        "--all reaches all processes of a container",
        &[Need::UnifiedTree],
        kill_all,
    ),
    must(
        "runtime.md#delete",
        "without an id, or for an unknown one: an error",
        &[],
        delete_unknown,
    ),
    must(
        "runtime.md#delete",
        "for a running container: an error without effect",
        &[],
        delete_running,
    ),
    must(
        "runtime.md#delete",
        "what create made is removed: state, cgroup, mounts",
        &[Need::UnifiedTree],
        delete_removes_all,
    ),
    must(
        "runtime.md#delete",
        "what create did not make stays: a bound directory, a joined namespace",
        &[],
        delete_keeps_others,
    ),
    must(
        "runtime.md#delete",
        "the id can be used again",
        &[],
        id_again,
    ),
    command_line(
        "command line: delete",
        "--force kills a running container and deletes it",
        &[],
        delete_by_force,
    ),
    command_line(
        "command line: delete",
        "--force for an unknown id is not an error",
        &[],
        force_unknown,
    ),
    command_line(
        "command line: delete",
        "--force deletes a created container",
        &[],
        force_created,
    ),
];

const RAN: &str = "user-program-ran";

fn leaves_a_mark() -> Vec<Step> {
    vec![Step::Create(format!("/{RAN}"))]
}

fn create_does_not_run(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&leaves_a_mark());
    let container = bench.create(&bundle)?;
    std::thread::sleep(std::time::Duration::from_millis(100));
    demand!(!bundle.root().join(RAN).exists(), "the program ran");
    for kind in ["mnt", "pid", "net", "uts", "ipc"] {
        let of = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/{kind}"));
        demand!(
            of(&container.pid.to_string())? != of("self")?,
            "the container has no {kind} namespace of its own yet"
        );
    }
    Ok(())
}

fn impossible_is_an_error(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.bind("/data", Path::new("/no/such/source"), &["bind"]);
    bench.refuses(&bundle)?;
    Ok(())
}

fn later_change_has_no_effect(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&leaves_a_mark());
    let container = bench.create(&bundle)?;
    bundle.steps(&[Step::Create("/changed".to_owned())]);
    bundle.set("/process/cwd", json!("/no/such"));
    bundle.save()?;
    container.start()?;
    container.wait()?;
    demand!(
        bundle.root().join(RAN).exists() && !bundle.root().join("changed").exists(),
        "the program of the changed configuration ran"
    );
    Ok(())
}

fn start_runs(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(&mut bundle, &leaves_a_mark())?;
    demand!(ran.end == End::Code(0), "{}: {}", ran.end, ran.stderr);
    demand!(bundle.root().join(RAN).exists(), "the program left no mark");
    Ok(())
}

fn end_makes_stopped(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Exit(7)]);
    let container = bench.start(&bundle)?;
    let end = container.wait()?;
    demand!(end == End::Code(7), "{end}");
    let status = container.status()?;
    demand!(status == "stopped", "the status is {status}");
    Ok(())
}

/// The cgroups of this check's containers.
fn cgroups(bench: &Bench) -> Vec<PathBuf> {
    fn walk(directory: &Path, name: &str, depth: u32, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if entry.file_name().to_string_lossy().contains(name) {
                found.push(entry.path());
            } else if depth > 0 {
                walk(&entry.path(), name, depth - 1, found);
            }
        }
    }
    let mut found = Vec::new();
    let id = bench.id();
    let name = id.rsplit_once('-').map_or(id.as_str(), |(name, _)| name);
    walk(Path::new("/sys/fs/cgroup"), name, 3, &mut found);
    found
}

fn failed_create_leaves_nothing(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.bind("/data", Path::new("/no/such/source"), &["bind"]);
    let id = bench.id();
    let failed = Container::create(bench, &bundle, &id, &[])?;
    demand!(failed.is_err(), "create did not fail");
    bench.refused(&["state", &id])?;
    let left = cgroups(bench);
    demand!(left.is_empty(), "cgroups are left: {left:?}");
    let state: Vec<_> = fs::read_dir(bench.root())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(&id))
        .collect();
    demand!(state.is_empty(), "state is left: {state:?}");
    bundle.without_mount("/data");
    let again = Container::create(bench, &bundle, &id, &[])?;
    demand!(
        again.is_ok(),
        "the id cannot be used again: {:?}",
        again.err()
    );
    Ok(())
}

fn missing_program(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/args", json!(["/no/such/program"]));
    match bench.try_create(&bundle)? {
        Err(message) => demand!(
            message.contains("/no/such/program"),
            "the message does not name the program: {message}"
        ),
        Ok(container) => {
            let started = container.command("start")?;
            demand!(!started.worked(), "neither create nor start failed");
        }
    }
    Ok(())
}

fn create_without_bundle(bench: &Bench) -> Check {
    // Without a bundle option, the bundle is the current directory.
    bench.refused(&["create", &bench.id()])?;
    bench.refused(&["create", "--bundle", "/no/such/bundle", &bench.id()])?;
    Ok(())
}

fn create_without_id(bench: &Bench) -> Check {
    let bundle = bench.bundle()?;
    bundle.save()?;
    bench.refused(&["create", "--bundle", &bundle.folder().to_string_lossy()])?;
    Ok(())
}

fn create_twice(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Sleep(60_000)]);
    let first = bench.start(&bundle)?;
    let second = Container::create(bench, &bench.bundle()?, &first.id, &[])?;
    demand!(second.is_err(), "the id was taken twice");
    let status = first.status()?;
    demand!(
        status == "running" && first.is_alive(),
        "the first container is {status}"
    );
    Ok(())
}

fn odd_ids(bench: &Bench) -> Check {
    let bundle = bench.bundle()?;
    bundle.save()?;
    let folder = bundle.folder().to_string_lossy().into_owned();
    for id in ["", ".", "..", "../outside", "a/b", "/tmp/x"] {
        bench.refused(&["create", "--bundle", &folder, id])?;
    }
    Ok(())
}

fn no_config(bench: &Bench) -> Check {
    let folder = bench.directory("empty")?;
    bench.refused(&["create", "--bundle", &folder.to_string_lossy(), &bench.id()])?;
    Ok(())
}

fn broken_config(bench: &Bench) -> Check {
    for text in ["", "{", "[]", "{\"ociVersion\": 1}"] {
        let folder = bench.directory("broken")?;
        fs::write(folder.join("config.json"), text)?;
        bench.refused(&["create", "--bundle", &folder.to_string_lossy(), &bench.id()])?;
    }
    Ok(())
}

fn created_status(bench: &Bench) -> Check {
    let status = bench.create(&bench.bundle()?)?.status()?;
    demand!(status == "created", "it is {status}");
    Ok(())
}

fn start_unknown(bench: &Bench) -> Check {
    bench.refused(&["start"])?;
    bench.refused(&["start", "conformance-nobody"])?;
    Ok(())
}

fn sleeping(bench: &Bench) -> Try<Container<'_>> {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Sleep(60_000)]);
    bench.start(&bundle)
}

fn stopped(bench: &Bench) -> Try<Container<'_>> {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[]);
    let container = bench.start(&bundle)?;
    container.wait()?;
    Ok(container)
}

fn start_twice(bench: &Bench) -> Check {
    let container = sleeping(bench)?;
    demand!(!container.command("start")?.worked(), "start worked twice");
    let status = container.status()?;
    demand!(
        status == "running" && container.is_alive(),
        "it is {status}"
    );
    Ok(())
}

fn start_stopped(bench: &Bench) -> Check {
    let container = stopped(bench)?;
    demand!(!container.command("start")?.worked(), "start worked");
    Ok(())
}

fn start_without_process(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.remove("/process");
    if let Ok(container) = bench.try_create(&bundle)? {
        demand!(!container.command("start")?.worked(), "start worked");
    }
    Ok(())
}

fn kill_unknown(bench: &Bench) -> Check {
    bench.refused(&["kill"])?;
    bench.refused(&["kill", "conformance-nobody", "TERM"])?;
    Ok(())
}

fn kill_stopped(bench: &Bench) -> Check {
    let container = stopped(bench)?;
    bench.refused(&["kill", &container.id, "TERM"])?;
    Ok(())
}

/// A container that waits for a signal and reports it by its exit code.
fn receiver(bench: &Bench) -> Try<Container<'_>> {
    let all = [
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGTERM,
        Signal::SIGWINCH,
    ]
    .map(|signal| signal as i32);
    let mut bundle = bench.bundle()?;
    bundle.steps(&[
        Step::Block(all.to_vec()),
        Step::Create("/ready".to_owned()),
        Step::Signal,
    ]);
    let container = bench.start(&bundle)?;
    until("the program blocks signals", || {
        Ok(bundle.root().join("ready").exists())
    })?;
    Ok(container)
}

fn received(bench: &Bench, arguments: &[&str], wanted: Signal) -> Check {
    let container = receiver(bench)?;
    let mut words = vec!["kill", container.id.as_str()];
    words.extend(arguments);
    bench.must(&words)?;
    let end = container.wait()?;
    let ran = container.ran(end)?;
    let got = ran.result(2)?;
    demand!(
        got.value() == wanted as i32,
        "kill {} brought {got}, not {}",
        arguments.join(" "),
        wanted as i32
    );
    Ok(())
}

fn kill_sends_the_signal(bench: &Bench) -> Check {
    received(bench, &["USR1"], Signal::SIGUSR1)?;
    received(bench, &["12"], Signal::SIGUSR2)?;
    let container = sleeping(bench)?;
    container.kill("KILL")?;
    let end = container.wait()?;
    demand!(end == End::Signal(9) || end == End::Gone, "{end}");
    Ok(())
}

fn kill_created(bench: &Bench) -> Check {
    let container = bench.create(&bench.bundle()?)?;
    container.kill("KILL")?;
    container.wait()?;
    let status = container.status()?;
    demand!(status == "stopped", "it is {status}");
    Ok(())
}

fn signal_names(bench: &Bench) -> Check {
    received(bench, &["SIGUSR1"], Signal::SIGUSR1)?;
    received(bench, &["usr2"], Signal::SIGUSR2)?;
    received(bench, &["WINCH"], Signal::SIGWINCH)?;
    received(bench, &[], Signal::SIGTERM)
}

fn unknown_signal(bench: &Bench) -> Check {
    let container = sleeping(bench)?;
    for signal in ["NOSUCH", "1000", "-1"] {
        bench.refused(&["kill", &container.id, signal])?;
    }
    demand!(container.is_alive(), "it is dead");
    Ok(())
}

fn kill_all(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    // In the runtime's pid namespace its children do not end with it.
    bundle.without_namespace("pid");
    bundle.steps(&[
        Step::Children(3),
        Step::Create("/ready".to_owned()),
        Step::Sleep(60_000),
    ]);
    let container = bench.start(&bundle)?;
    until("the children are there", || {
        Ok(bundle.root().join("ready").exists())
    })?;
    bench.must(&["kill", "--all", &container.id, "KILL"])?;
    container.wait()?;
    until("no process is left in the cgroup", || {
        Ok(cgroups(bench)
            .iter()
            .all(|path| fs::read_to_string(path.join("cgroup.procs")).is_ok_and(|t| t.is_empty())))
    })
}

fn delete_unknown(bench: &Bench) -> Check {
    bench.refused(&["delete"])?;
    bench.refused(&["delete", "conformance-nobody"])?;
    Ok(())
}

fn delete_running(bench: &Bench) -> Check {
    let container = sleeping(bench)?;
    bench.refused(&["delete", &container.id])?;
    let status = container.status()?;
    demand!(
        status == "running" && container.is_alive(),
        "it is {status}"
    );
    Ok(())
}

fn delete_removes_all(bench: &Bench) -> Check {
    let before = fs::read_to_string("/proc/self/mountinfo")?;
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    demand!(!cgroups(bench).is_empty(), "the container has no cgroup");
    container.kill("KILL")?;
    container.wait()?;
    container.delete()?;
    let left = cgroups(bench);
    demand!(left.is_empty(), "cgroups are left: {left:?}");
    let state: Vec<_> = fs::read_dir(bench.root())?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().contains(&container.id))
        .collect();
    demand!(state.is_empty(), "state is left: {state:?}");
    let after = fs::read_to_string("/proc/self/mountinfo")?;
    demand!(before == after, "mounts are left:\n{after}");
    Ok(())
}

fn delete_keeps_others(bench: &Bench) -> Check {
    let other = bench.bundle()?;
    let host = bench.create(&other)?;
    let namespace = format!("/proc/{}/ns/net", host.pid);
    let directory = bench.directory("bound")?;
    fs::write(directory.join("file"), "kept")?;
    let mut bundle = bench.bundle()?;
    bundle.bind("/data", &directory, &["bind", "rw"]);
    bundle.namespace("network", Some(&namespace));
    bundle.steps(&[]);
    let container = bench.start(&bundle)?;
    container.wait()?;
    container.delete()?;
    demand!(
        fs::read_to_string(directory.join("file")).is_ok_and(|text| text == "kept"),
        "the bound directory lost its file"
    );
    demand!(host.is_alive(), "the other container is gone");
    demand!(
        bundle.root().join("probe").exists(),
        "the root file system is gone"
    );
    Ok(())
}

fn id_again(bench: &Bench) -> Check {
    let first = stopped(bench)?;
    first.delete()?;
    let again = Container::create(bench, &bench.bundle()?, &first.id, &[])?;
    demand!(again.is_ok(), "create failed: {:?}", again.err());
    Ok(())
}

fn delete_by_force(bench: &Bench) -> Check {
    let container = sleeping(bench)?;
    bench.must(&["delete", "--force", &container.id])?;
    demand!(!container.is_alive(), "its process lives");
    bench.refused(&["state", &container.id])?;
    Ok(())
}

fn force_unknown(bench: &Bench) -> Check {
    bench.must(&["delete", "--force", "conformance-nobody"])?;
    Ok(())
}

fn force_created(bench: &Bench) -> Check {
    let container = bench.create(&bench.bundle()?)?;
    bench.must(&["delete", "--force", &container.id])?;
    demand!(!container.is_alive(), "its process lives");
    bench.refused(&["state", &container.id])?;
    Ok(())
}
