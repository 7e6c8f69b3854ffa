//! What callers and containers do to a runtime that the specification leaves
//! open: what runc, crun and we agree on, and what has hurt one of them.

use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixListener;

use nix::sys::stat::Mode;
use serde_json::{Value, json};

use crate::bench::{Bench, Container, End};
use crate::clause::{Check, Clause, Problem, command_line, demand, must, security};
use crate::probe::Step;

use super::seccomp_listener::notifying;

pub const CLAUSES: &[Clause] = &[
    must(
        "runtime.md#state status",
        "a process whose first thread has ended while others run is running, and can be killed",
        &[],
        first_thread,
    ),
    security(
        "user 4294967295",
        "a user or group that means \"unchanged\" to the kernel is refused, at create and exec",
        &[],
        unchanged_user,
    ),
    security(
        "exec and the machine's root",
        "a privileged container never sees a process that has the machine's root",
        &[],
        root_of_exec,
    ),
    security(
        "config.json",
        "a FIFO, an endless device or a directory in its place is an error, at once",
        &[],
        no_regular_file,
    ),
    command_line(
        "runc: maskedPaths",
        "a masked directory is an empty one for every user",
        &[],
        masked_for_users,
    ),
    command_line(
        "runc: hooks env",
        "a hook of the runtime without env has the caller's environment",
        &[],
        environment_of_hooks,
    ),
    command_line(
        "runc: createContainer hooks",
        "they may write into a root that is read-only for the container",
        &[],
        writing_hook,
    ),
    command_line(
        "runc: mount options",
        "a mount with norelatime or rnorelatime has the kernel's default, relatime",
        &[],
        norelatime,
    ),
    command_line(
        "command line: create",
        "--console-socket may have a path that is longer than a socket's address",
        &[],
        long_console_socket,
    ),
    command_line(
        "runc: seccomp listenerPath",
        "the agent has the listener when create returns",
        &[],
        listener_at_create,
    ),
];

fn first_thread(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::EndFirstThread]);
    let container = bench.start(&bundle)?;
    let stat = format!("/proc/{}/stat", container.pid);
    crate::bench::until("the first thread has ended", || {
        let text = fs::read_to_string(&stat)?;
        Ok(text
            .rsplit_once(") ")
            .is_some_and(|(_, rest)| rest.starts_with('Z')))
    })?;
    let status = container.status()?;
    demand!(status == "running", "it is {status}");
    container.kill("KILL")?;
    let end = container.wait()?;
    demand!(end == End::Signal(9), "{end}");
    Ok(())
}

const UNCHANGED: u32 = u32::MAX;

fn unchanged_user(bench: &Bench) -> Check {
    for pointer in ["/process/user/uid", "/process/user/gid"] {
        let mut bundle = bench.bundle()?;
        bundle.set(pointer, json!(UNCHANGED));
        bench.refuses_to_run(&mut bundle)?;
    }
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    let args = ["/probe", "do", "[]"].map(str::to_owned);
    let usual = container.exec(&["--user", "7:7"], &args)?;
    demand!(usual.worked(), "exec as another user: {}", usual.stderr);
    for user in ["4294967295", "7:4294967295"] {
        let done = container.exec(&["--user", user], &args)?;
        demand!(!done.worked(), "exec --user {user} ran");
    }
    Ok(())
}

fn root_of_exec(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let set = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"]);
    for kind in ["bounding", "effective", "permitted"] {
        bundle.set(&format!("/process/capabilities/{kind}"), set.clone());
    }
    bundle.steps(&[Step::Create("/ready".to_owned()), Step::Roots(3000)]);
    let container = bench.start(&bundle)?;
    crate::bench::until("the program is ready", || {
        Ok(bundle.root().join("ready").exists())
    })?;
    for _ in 0..30 {
        let args = ["/probe", "do", "[]"].map(str::to_owned);
        container.exec(&[], &args)?;
    }
    let end = container.wait()?;
    let ran = container.ran(end)?;
    let found = ran.result(1)?.value();
    demand!(found["met"] != json!(0), "no process was met");
    demand!(found["others"] == json!(0), "it saw {found}");
    Ok(())
}

fn no_regular_file(bench: &Bench) -> Check {
    for kind in ["fifo", "device", "directory"] {
        let folder = bench.directory(kind)?;
        let config = folder.join("config.json");
        match kind {
            "fifo" => {
                let path = CString::new(config.as_os_str().as_encoded_bytes())
                    .map_err(|_| Problem::Untried("a folder with a NUL".to_owned()))?;
                nix::unistd::mkfifo(path.as_c_str(), Mode::from_bits_truncate(0o600))?;
            }
            "device" => std::os::unix::fs::symlink("/dev/zero", &config)?,
            _ => fs::create_dir(&config)?,
        }
        let folder = folder.to_string_lossy().into_owned();
        bench.refused(&["create", "--bundle", &folder, &bench.id()])?;
    }
    Ok(())
}

fn masked_for_users(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/srv/secrets/one", "secret")?;
    bundle.set("/linux/maskedPaths", json!(["/srv/secrets"]));
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    bundle.set("/process/capabilities", json!({}));
    let ran = bench.run(&mut bundle, &[Step::List("/srv/secrets".to_owned())])?;
    let listed = ran.result(0)?;
    demand!(*listed.value() == json!([]), "it shows {listed}");
    Ok(())
}

/// A hook that notes in the file `log` on the machine.
fn hook(bench: &Bench, log: &std::path::Path) -> Value {
    let log = log.to_string_lossy();
    json!({ "path": bench.program(), "args": ["hook", "hook", log, "one"] })
}

fn environment_of_hooks(bench: &Bench) -> Check {
    let log = bench.path("hooks");
    let mut bundle = bench.bundle()?;
    bundle.push("/hooks/createRuntime", hook(bench, &log));
    bench.run(&mut bundle, &[])?;
    let note: Value = serde_json::from_str(fs::read_to_string(&log)?.trim())?;
    let has_path = note["env"].as_array().is_some_and(|env| {
        env.iter().any(|variable| {
            variable
                .as_str()
                .is_some_and(|text| text.starts_with("PATH="))
        })
    });
    demand!(has_path, "it has {}", note["env"]);
    Ok(())
}

fn writing_hook(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/root/readonly", json!(true));
    let made = bundle.root().join("made");
    bundle.push("/hooks/createContainer", hook(bench, &made));
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Stat("/made".to_owned()),
            Step::Create("/more".to_owned()),
        ],
    )?;
    demand!(ran.result(0)?.worked(), "the file: {}", ran.result(0)?);
    demand!(!ran.result(1)?.worked(), "the root can be written");
    Ok(())
}

fn norelatime(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let options = ["norelatime", "rnorelatime"];
    for option in options {
        bundle.mount(&format!("/{option}"), "tmpfs", "tmpfs", &[option]);
    }
    let world = bench.world(&mut bundle)?;
    for option in options {
        let target = format!("/{option}");
        let mount = world.mounts.iter().find(|mount| mount.point == target);
        demand!(
            mount.is_some_and(|mount| mount.has("relatime")),
            "{option} became {mount:?}"
        );
    }
    Ok(())
}

fn long_console_socket(bench: &Bench) -> Check {
    let folder = bench.directory(&"d".repeat(120))?;
    let opened = File::open(&folder)?;
    let _listener = UnixListener::bind(format!("/proc/self/fd/{}/s", opened.as_raw_fd()))?;
    let path = folder.join("s").to_string_lossy().into_owned();
    let mut bundle = bench.bundle()?;
    bundle.set("/process/terminal", json!(true));
    let created = Container::create(bench, &bundle, &bench.id(), &["--console-socket", &path])?;
    let message = created.err().unwrap_or_default();
    demand!(message.is_empty(), "create failed: {}", message.trim());
    Ok(())
}

fn listener_at_create(bench: &Bench) -> Check {
    let path = bench.path("agent");
    let agent = UnixListener::bind(&path)?;
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/seccomp", notifying(&path.to_string_lossy()));
    bundle.steps(&[Step::Sleep(1000)]);
    let container = bench.create(&bundle)?;
    agent.set_nonblocking(true)?;
    let (mut stream, _) = agent.accept()?;
    stream.set_read_timeout(Some(std::time::Duration::from_secs(5)))?;
    let (_, descriptors) = super::seccomp_listener::take(&mut stream)?;
    demand!(descriptors.len() == 1, "{} came", descriptors.len());
    let status = container.status()?;
    demand!(status == "created", "it is {status}");
    container.start()
}
