//! The commands of runc that the specification does not have: exec, pause,
//! resume, ps, update, events, features.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, Bundle, Container, left_zombies, text, until};
use crate::clause::{Check, Clause, Try, command_line, demand};
use crate::needs::Need;
use crate::probe::world::{World, capability_mask};
use crate::probe::{self, Step};

pub const CLAUSES: &[Clause] = &[
    command_line(
        "command line: exec",
        "a process runs in all namespaces, the cgroup and the root of the container",
        &[Need::UnifiedTree],
        exec_is_inside,
    ),
    command_line(
        "command line: exec",
        "its exit code is the command's, and a signal gives 128 plus its number",
        &[],
        exec_returns_the_code,
    ),
    command_line(
        "command line: exec",
        "user, capabilities, limits and environment are those of the container's process",
        &[],
        exec_inherits_process,
    ),
    command_line(
        "command line: exec",
        "--user, --cwd, --env, --additional-gids and --cap change it",
        &[],
        exec_options,
    ),
    command_line(
        "command line: exec",
        "--no-new-privs sets the flag",
        &[],
        exec_no_new_privileges,
    ),
    command_line(
        "command line: exec",
        "--process FILE is a whole process, its user, capabilities and limits",
        &[],
        exec_process,
    ),
    command_line(
        "command line: exec",
        "--detach with --pid-file returns while the process is running",
        &[],
        exec_detached,
    ),
    command_line(
        "command line: exec",
        "options after -- and after the program are the program's",
        &[],
        exec_arguments,
    ),
    command_line(
        "command line: exec",
        "a program that does not exist is an error",
        &[],
        exec_missing,
    ),
    command_line(
        "command line: exec",
        "a failed exec leaves no process, and no zombie for the caller",
        &[],
        exec_leaves_nothing,
    ),
    command_line(
        "command line: exec",
        "in a stopped or unknown container: an error",
        &[],
        exec_in_stopped,
    ),
    command_line(
        "command line: exec",
        "standard input is the caller's",
        &[],
        exec_input,
    ),
    command_line(
        "command line: exec",
        "--preserve-fds N passes N descriptors and no others",
        &[],
        exec_descriptors,
    ),
    command_line(
        "command line: exec",
        "it works in a user namespace",
        &[Need::UserNamespace],
        exec_in_user_namespace,
    ),
    command_line(
        "command line: pause resume",
        "the processes are frozen, the state is paused, and resume lets them continue",
        &[Need::UnifiedTree],
        pause,
    ),
    command_line(
        "command line: pause resume",
        "pause of a stopped container and resume of one that is not paused are errors",
        &[Need::UnifiedTree],
        pause_stopped,
    ),
    command_line(
        "command line: delete",
        "--force deletes a paused container",
        &[Need::UnifiedTree],
        delete_paused,
    ),
    command_line(
        "command line: ps",
        "--format json lists the pids of the container as the machine sees them",
        &[Need::UnifiedTree],
        ps,
    ),
    command_line(
        "command line: update",
        "--pids-limit changes the limit of the running container",
        &[Need::Controller("pids")],
        update_pids,
    ),
    command_line(
        "command line: update",
        "--memory and --cpu-quota change the limits",
        &[Need::Controller("memory"), Need::Controller("cpu")],
        update_memory,
    ),
    command_line(
        "command line: update",
        "--resources FILE changes what the file names and nothing else",
        &[Need::Controller("memory"), Need::Controller("pids")],
        update_file,
    ),
    command_line(
        "command line: update",
        "for a stopped container: an error",
        &[],
        update_stopped,
    ),
    command_line(
        "command line: events",
        "--stats prints one JSON object with type, id and data",
        &[Need::UnifiedTree],
        events,
    ),
    command_line(
        "command line: events",
        "the statistics have the pids limit and the use of memory and processor",
        &[
            Need::Controller("pids"),
            Need::Controller("memory"),
            Need::Controller("cpu"),
        ],
        events_data,
    ),
];

fn sleeping<'bench>(bench: &'bench Bench, bundle: &mut Bundle) -> Try<Container<'bench>> {
    bundle.steps(&[Step::Sleep(60_000)]);
    bench.start(bundle)
}

/// The world of a process that `exec` starts.
fn executed(container: &Container, options: &[&str]) -> Try<World> {
    let output = container.exec(options, &probe::arguments(&[Step::World]))?;
    demand!(output.worked(), "exec failed: {}", output.stderr.trim());
    let lines = probe::lines(&output.stdout);
    let value = lines.first().map(|line| line.value().clone());
    Ok(serde_json::from_value(value.unwrap_or_default())?)
}

fn exec_is_inside(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    let world = executed(&container, &[])?;
    for name in ["mnt", "pid", "net", "uts", "ipc", "cgroup"] {
        let link = fs::read_link(format!("/proc/{}/ns/{name}", container.pid))?;
        demand!(
            world.namespaces.get(name).map(String::as_str) == link.to_str(),
            "its {name} namespace is another"
        );
    }
    let line = world.cgroup.lines().find(|line| line.starts_with("0::"));
    demand!(line == Some("0::/"), "its cgroup is {line:?}");
    demand!(
        world.hostname == "conformance",
        "its host is {}",
        world.hostname
    );
    demand!(
        world.processes.contains(&1),
        "it sees {:?}",
        world.processes
    );
    Ok(())
}

fn exec_returns_the_code(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    let output = container.exec(&[], &probe::arguments(&[Step::Exit(41)]))?;
    demand!(output.code == Some(41), "it is {:?}", output.code);
    // A limit on processor time ends it by a signal.
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(probe::arguments(&[Step::Spin(60_000)]));
    process["rlimits"] = json!([{ "type": "RLIMIT_CPU", "soft": 1, "hard": 1 }]);
    let output = with_process(bench, &container, &process)?;
    demand!(
        output.code == Some(128 + libc::SIGKILL) || output.code == Some(128 + libc::SIGXCPU),
        "after a signal it is {:?}",
        output.code
    );
    Ok(())
}

fn with_process(
    bench: &Bench,
    container: &Container,
    process: &Value,
) -> Try<crate::bench::Output> {
    let path = bench.path("process");
    fs::write(&path, process.to_string())?;
    container.exec(&["--process", &path.to_string_lossy()], &[])
}

fn exec_inherits_process(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/process/user",
        json!({ "uid": 5, "gid": 6, "additionalGids": [7] }),
    );
    let set = ["CAP_CHOWN", "CAP_KILL"];
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": set, "permitted": set, "effective": set, "inheritable": set, "ambient": set }),
    );
    bundle.set(
        "/process/rlimits",
        json!([{ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 }]),
    );
    bundle.push("/process/env", json!("OF_THE_CONTAINER=1"));
    bundle.directory("/srv/work")?;
    bundle.set("/process/cwd", json!("/srv/work"));
    bundle.set("/process/noNewPrivileges", json!(true));
    let container = sleeping(bench, &mut bundle)?;
    let world = executed(&container, &[])?;
    demand!(
        world.uid == [5; 3] && world.gid == [6; 3] && world.groups.contains(&7),
        "it is {:?} {:?} {:?}",
        world.uid,
        world.gid,
        world.groups
    );
    demand!(
        world.bounding == capability_mask(&set) && world.effective == capability_mask(&set),
        "bounding is {:x}, effective {:x}",
        world.bounding,
        world.effective
    );
    demand!(
        world.limits.get("RLIMIT_NOFILE") == Some(&(100, 200)),
        "its limit is {:?}",
        world.limits.get("RLIMIT_NOFILE")
    );
    demand!(
        world.env.iter().any(|have| have == "OF_THE_CONTAINER=1"),
        "its variables are {:?}",
        world.env
    );
    demand!(
        world.cwd.as_deref() == Some("/srv/work"),
        "its directory is {:?}",
        world.cwd
    );
    demand!(world.no_new_privileges, "noNewPrivileges is not set");
    Ok(())
}

fn exec_options(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": ["CAP_CHOWN"] }),
    );
    let container = sleeping(bench, &mut bundle)?;
    let world = executed(
        &container,
        &[
            "--user",
            "123:45",
            "--cwd",
            "/etc",
            "--env",
            "ADDED=1",
            "--additional-gids",
            "67",
        ],
    )?;
    demand!(
        world.uid == [123; 3] && world.gid == [45; 3] && world.groups.contains(&67),
        "it is {:?} {:?} {:?}",
        world.uid,
        world.gid,
        world.groups
    );
    demand!(
        world.cwd.as_deref() == Some("/etc"),
        "it is in {:?}",
        world.cwd
    );
    demand!(
        world.env.iter().any(|have| have == "ADDED=1"),
        "its variables are {:?}",
        world.env
    );
    let world = executed(&container, &["--cap", "CAP_KILL"])?;
    demand!(
        world.effective & capability_mask(&["CAP_KILL"]) != 0,
        "effective is {:x}",
        world.effective
    );
    Ok(())
}

fn exec_no_new_privileges(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    demand!(
        executed(&container, &["--no-new-privs"])?.no_new_privileges,
        "it is not set"
    );
    demand!(
        !executed(&container, &[])?.no_new_privileges,
        "it is set without the option"
    );
    Ok(())
}

fn exec_process(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    let set = ["CAP_KILL"];
    let process = json!({
        "args": probe::arguments(&[Step::World]),
        "cwd": "/etc",
        "env": ["ONLY=1"],
        "user": { "uid": 11, "gid": 12, "additionalGids": [13], "umask": 0o77 },
        "capabilities": {
            "bounding": set, "permitted": set, "effective": set, "inheritable": set, "ambient": set,
        },
        "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 65 }],
        "oomScoreAdj": 200,
        "noNewPrivileges": true,
    });
    let output = with_process(bench, &container, &process)?;
    demand!(output.worked(), "exec failed: {}", output.stderr.trim());
    let lines = probe::lines(&output.stdout);
    let value = lines.first().map(|line| line.value().clone());
    let world: World = serde_json::from_value(value.unwrap_or_default())?;
    demand!(
        world.uid == [11; 3] && world.gid == [12; 3] && world.groups.contains(&13),
        "it is {:?} {:?} {:?}",
        world.uid,
        world.gid,
        world.groups
    );
    demand!(
        world.effective == capability_mask(&set) && world.bounding == capability_mask(&set),
        "effective is {:x}, bounding {:x}",
        world.effective,
        world.bounding
    );
    demand!(
        world.cwd.as_deref() == Some("/etc"),
        "it is in {:?}",
        world.cwd
    );
    demand!(world.umask == 0o77, "its umask is {:o}", world.umask);
    demand!(
        world.limits.get("RLIMIT_NOFILE") == Some(&(64, 65)),
        "its limit is {:?}",
        world.limits.get("RLIMIT_NOFILE")
    );
    demand!(world.no_new_privileges, "noNewPrivileges is not set");
    demand!(
        world.oom_score_adj == "200",
        "oomScoreAdj is {}",
        world.oom_score_adj
    );
    demand!(
        world
            .env
            .iter()
            .all(|have| have == "ONLY=1" || have.starts_with("HOME=")),
        "its variables are {:?}",
        world.env
    );
    Ok(())
}

fn exec_detached(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    let path = bench.path("pid");
    let output = container.exec(
        &["--detach", "--pid-file", &path.to_string_lossy()],
        &probe::arguments(&[Step::Sleep(60_000), Step::Sleep(1)]),
    )?;
    demand!(output.worked(), "exec failed: {}", output.stderr.trim());
    let pid = fs::read_to_string(path)?;
    let link = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/pid"));
    demand!(
        link(pid.trim())? == link(&container.pid.to_string())?,
        "process {pid} is not in the container"
    );
    Ok(())
}

fn exec_arguments(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    let mut args = probe::arguments(&[Step::World]);
    args.extend(["--tty", "-d", "--env"].map(str::to_owned));
    let output = container.exec(&[], &args)?;
    demand!(output.worked(), "exec failed: {}", output.stderr.trim());
    let lines = probe::lines(&output.stdout);
    let found = lines.first().map(|line| line.value()["args"].clone());
    demand!(found == Some(json!(args)), "its arguments are {found:?}");
    Ok(())
}

fn exec_missing(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    let output = container.exec(&[], &["/no/such/program".to_owned()])?;
    demand!(!output.worked(), "it was no error");
    demand!(
        output.stderr.contains("/no/such/program") || output.stderr.contains("no such file"),
        "the message is {}",
        output.stderr
    );
    demand!(
        container.status()? == "running",
        "the container is no longer running"
    );
    Ok(())
}

fn exec_leaves_nothing(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    container.exec(&[], &["/no/such/program".to_owned()])?;
    container.exec(&[], &probe::arguments(&[Step::Exit(1)]))?;
    let left = left_zombies();
    demand!(left.is_empty(), "zombies are left: {left:?}");
    let world = executed(&container, &[])?;
    demand!(
        world.processes.len() == 2,
        "the container has the processes {:?}",
        world.processes
    );
    Ok(())
}

fn exec_in_stopped(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[]);
    let container = bench.start(&bundle)?;
    container.wait()?;
    let output = container.exec(&[], &probe::arguments(&[]))?;
    demand!(!output.worked(), "it worked in a stopped container");
    bench.refused(&["exec", "conformance-nobody", "/probe"])?;
    Ok(())
}

fn exec_input(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    let path = bench.path("input");
    fs::write(&path, "typed")?;
    let steps = probe::arguments(&[Step::Read("/proc/self/fd/0".to_owned())]);
    let mut command = container.exec_command(&[], &steps);
    command.stdin(fs::File::open(path)?);
    let output = bench.output(&mut command)?;
    let lines = probe::lines(&output.stdout);
    demand!(
        lines.first().is_some_and(|line| line.text() == "typed"),
        "it read {lines:?} {}",
        output.stderr
    );
    Ok(())
}

fn exec_descriptors(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    let path = bench.path("passed");
    fs::write(&path, "passed")?;
    // Descriptors from 3 on that the runtime has from its caller.
    let mut copies = Vec::new();
    {
        let file = fs::File::open(path)?;
        for _ in 0..2 {
            copies.push(nix::unistd::dup(&file)?);
        }
    }
    copies.push(nix::unistd::dup(&copies[0])?);
    let world = executed(&container, &["--preserve-fds", "1"])?;
    let numbers: Vec<_> = world.descriptors.keys().copied().collect();
    demand!(numbers == [0, 1, 2, 3], "open are {:?}", world.descriptors);
    let world = executed(&container, &[])?;
    let numbers: Vec<_> = world.descriptors.keys().copied().collect();
    demand!(
        numbers == [0, 1, 2],
        "without it open are {:?}",
        world.descriptors
    );
    Ok(())
}

fn exec_in_user_namespace(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    let container = sleeping(bench, &mut bundle)?;
    let world = executed(&container, &[])?;
    let link = fs::read_link(format!("/proc/{}/ns/user", container.pid))?;
    demand!(
        world.namespaces.get("user").map(String::as_str) == link.to_str(),
        "its user namespace is another"
    );
    demand!(world.uid == [0; 3], "it is {:?}", world.uid);
    Ok(())
}

fn pause(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[
        Step::Await("/go".to_owned()),
        Step::Create("/went".to_owned()),
        Step::Sleep(60_000),
    ]);
    let container = bench.start(&bundle)?;
    bench.must(&["pause", &container.id])?;
    let status = container.status()?;
    demand!(status == "paused", "the status is {status}");
    bundle.file("/go", "")?;
    std::thread::sleep(std::time::Duration::from_millis(300));
    demand!(!bundle.root().join("went").exists(), "it went on");
    bench.must(&["resume", &container.id])?;
    let status = container.status()?;
    demand!(status == "running", "the status afterwards is {status}");
    until("it goes on", || Ok(bundle.root().join("went").exists()))
}

fn pause_stopped(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let running = sleeping(bench, &mut bundle)?;
    bench.refused(&["resume", &running.id])?;
    running.kill("KILL")?;
    running.wait()?;
    bench.refused(&["pause", &running.id])?;
    Ok(())
}

fn delete_paused(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    bench.must(&["pause", &container.id])?;
    bench.must(&["delete", "--force", &container.id])?;
    demand!(!container.is_alive(), "its process lives");
    Ok(())
}

fn ps(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[
        Step::Children(2),
        Step::Create("/ready".to_owned()),
        Step::Sleep(60_000),
    ]);
    let container = bench.start(&bundle)?;
    until("the children are there", || {
        Ok(bundle.root().join("ready").exists())
    })?;
    let output = bench.must(&["ps", "--format", "json", &container.id])?;
    let pids: Vec<i32> = serde_json::from_str(&output.stdout)?;
    demand!(
        pids.len() == 3 && pids.contains(&container.pid.as_raw()),
        "they are {pids:?}, the first is {}",
        container.pid
    );
    Ok(())
}

/// A file of the container's cgroup.
fn cgroup_file(container: &Container, name: &str) -> Try<String> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid))?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default();
    Ok(fs::read_to_string(format!("/sys/fs/cgroup{path}/{name}"))?
        .trim()
        .to_owned())
}

fn update_pids(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/resources/pids", json!({ "limit": 10 }));
    let container = sleeping(bench, &mut bundle)?;
    bench.must(&["update", "--pids-limit", "20", &container.id])?;
    let found = cgroup_file(&container, "pids.max")?;
    demand!(found == "20", "it is {found}");
    Ok(())
}

fn update_memory(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/resources/memory", json!({ "limit": 64 << 20 }));
    let container = sleeping(bench, &mut bundle)?;
    bench.must(&["update", "--memory", "100663296", &container.id])?;
    let found = cgroup_file(&container, "memory.max")?;
    demand!(found == "100663296", "memory.max is {found}");
    bench.must(&[
        "update",
        "--cpu-quota",
        "50000",
        "--cpu-period",
        "200000",
        &container.id,
    ])?;
    let found = cgroup_file(&container, "cpu.max")?;
    demand!(found == "50000 200000", "cpu.max is {found}");
    Ok(())
}

fn update_file(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/linux/resources",
        json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 10 } }),
    );
    let container = sleeping(bench, &mut bundle)?;
    let path = bench.path("resources");
    fs::write(
        &path,
        json!({ "memory": { "limit": 96 << 20 } }).to_string(),
    )?;
    bench.must(&[
        "update",
        "--resources",
        &path.to_string_lossy(),
        &container.id,
    ])?;
    let memory = cgroup_file(&container, "memory.max")?;
    let pids = cgroup_file(&container, "pids.max")?;
    demand!(
        memory == (96 << 20).to_string() && pids == "10",
        "memory.max is {memory}, pids.max {pids}"
    );
    Ok(())
}

fn update_stopped(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[]);
    let container = bench.start(&bundle)?;
    container.wait()?;
    bench.refused(&["update", "--pids-limit", "20", &container.id])?;
    bench.refused(&["update", "--pids-limit", "20", "conformance-nobody"])?;
    Ok(())
}

fn stats(bench: &Bench, container: &Container) -> Try<Value> {
    let output = bench.must(&["events", "--stats", &container.id])?;
    Ok(serde_json::from_str(output.stdout.trim())?)
}

fn events(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let container = sleeping(bench, &mut bundle)?;
    let event = stats(bench, &container)?;
    demand!(
        text(&event, "type") == "stats"
            && text(&event, "id") == container.id
            && event["data"].is_object(),
        "it is {event}"
    );
    Ok(())
}

fn events_data(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/linux/resources",
        json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 10 } }),
    );
    let container = sleeping(bench, &mut bundle)?;
    let data = stats(bench, &container)?["data"].clone();
    demand!(
        data["pids"]["current"] == 1 && data["pids"]["limit"] == 10,
        "pids is {}",
        data["pids"]
    );
    let memory = &data["memory"]["usage"];
    demand!(
        memory["usage"].as_u64().is_some_and(|bytes| bytes > 0) && memory["limit"] == 64 << 20,
        "memory is {memory}"
    );
    demand!(
        data["cpu"]["usage"]["total"]
            .as_u64()
            .is_some_and(|time| time > 0),
        "cpu is {}",
        data["cpu"]
    );
    Ok(())
}
