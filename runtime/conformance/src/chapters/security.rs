//! Attacks that known runtimes have been vulnerable to, and what keeps the
//! machine out of a container's reach.

use std::fs;

use serde_json::{Value, json};

use crate::bench::{Bench, Bundle};
use crate::clause::{Check, Clause, Try, demand, security};
use crate::needs::Need;
use crate::probe::{self, Step};
use crate::sys::Call;

pub const CLAUSES: &[Clause] = &[
    security(
        "CVE-2019-5736",
        "the runtime's executable cannot be opened for writing from inside, while or after exec",
        &[],
        executable,
    ),
    security(
        "CVE-2019-5736",
        "a program that is a link to /proc/self/exe does not give the runtime's executable away",
        &[],
        executable_as_program,
    ),
    security(
        "CVE-2016-9962",
        "a process inside cannot use descriptors of a process that exec brings in",
        &[],
        descriptors_of_exec,
    ),
    security(
        "CVE-2024-21626",
        "process.cwd of /proc/self/fd/N does not lead out of the root, at create",
        &[],
        cwd_at_create,
    ),
    security(
        "CVE-2024-21626",
        "a working directory of /proc/self/fd/N does not lead out of the root, at exec",
        &[],
        cwd_at_exec,
    ),
    security(
        "CVE-2024-21626",
        "a link to /proc/self/fd/N as working directory does not lead out of the root",
        &[],
        cwd_by_link,
    ),
    security(
        "CVE-2024-21626",
        "a program of /proc/self/fd/N is not found",
        &[],
        program_of_descriptor,
    ),
    security(
        "CVE-2022-0492",
        "a cgroup mount shows the container's cgroup and none above or beside it",
        &[Need::UnifiedTree],
        cgroup_mount,
    ),
    security(
        "cgroup namespace",
        "the process is in its cgroup before the namespace is made: it sees no path above",
        &[Need::UnifiedTree],
        cgroup_of_all,
    ),
    security(
        "devices",
        "a node that the process created for a device that no rule allows cannot be opened",
        &[Need::UnifiedTree],
        forbidden_device,
    ),
    security(
        "keyring",
        "the session keyring is not the caller's",
        &[],
        keyring,
    ),
    security(
        "descriptors",
        "none of the machine's files is open in the process, and none of the runtime's",
        &[],
        open_files,
    ),
    security(
        "mounts",
        "the old root cannot be reached: not by unmounting, and /proc/1/root is the container's",
        &[],
        old_root,
    ),
];

/// A container with the usual permissions, so without the power to inspect
/// every process.
fn modest(bench: &Bench) -> Try<Bundle> {
    let mut bundle = bench.bundle()?;
    let set = [
        "CAP_CHOWN",
        "CAP_DAC_OVERRIDE",
        "CAP_FSETID",
        "CAP_FOWNER",
        "CAP_MKNOD",
        "CAP_NET_RAW",
        "CAP_SETGID",
        "CAP_SETUID",
        "CAP_SETFCAP",
        "CAP_SETPCAP",
        "CAP_NET_BIND_SERVICE",
        "CAP_SYS_CHROOT",
        "CAP_KILL",
        "CAP_AUDIT_WRITE",
    ];
    bundle.set(
        "/process/capabilities",
        json!({ "bounding": set, "permitted": set, "effective": set }),
    );
    Ok(bundle)
}

/// Runs a step inside for a while, and programs by exec at the same time.
fn while_executing(bench: &Bench, step: Step) -> Try<Vec<String>> {
    let mut bundle = modest(bench)?;
    bundle.link("/self", "/proc/self/exe")?;
    bundle.steps(&[Step::Create("/ready".to_owned()), step]);
    let container = bench.start(&bundle)?;
    crate::bench::until("the program is ready", || {
        Ok(bundle.root().join("ready").exists())
    })?;
    for round in 0..12 {
        let program = ["/probe", "/proc/self/exe", "/self"][round % 3];
        // Its result does not matter here.
        container.exec(&[], &[program.to_owned(), "do".to_owned(), "[]".to_owned()])?;
    }
    let end = container.wait()?;
    let ran = container.ran(end)?;
    Ok(serde_json::from_value(ran.result(1)?.value().clone())?)
}

fn executable(bench: &Bench) -> Check {
    let open = while_executing(bench, Step::Executables(3000))?;
    demand!(open.is_empty(), "these could be written: {open:?}");
    Ok(())
}

fn executable_as_program(bench: &Bench) -> Check {
    let mut bundle = modest(bench)?;
    bundle.link("/self", "/proc/self/exe")?;
    bundle.set("/process/args", json!(["/self", "state", "nobody"]));
    let Ok(container) = bench.try_create(&bundle)? else {
        return Ok(());
    };
    container.command("start")?;
    // Another process of the same root looks at what runs there now.
    let open = while_executing(bench, Step::Executables(1500))?;
    demand!(open.is_empty(), "these could be written: {open:?}");
    Ok(())
}

fn descriptors_of_exec(bench: &Bench) -> Check {
    let reached = while_executing(bench, Step::Descriptors(3000))?;
    demand!(reached.is_empty(), "these could be reached: {reached:?}");
    Ok(())
}

const TOP: &str = "../../../../../../../../../../../..";

/// Steps that show whether the working directory is in the root.
fn where_am_i() -> Vec<Step> {
    vec![
        Step::Stat("/".to_owned()),
        Step::Stat(TOP.to_owned()),
        Step::World,
    ]
}

fn is_inside(results: &[probe::Done], what: &str) -> Check {
    let [root, top, ..] = results else {
        return Ok(());
    };
    let same = |key: &str| root.value()[key] == top.value()[key];
    demand!(
        !top.worked() || same("device") && same("inode"),
        "{what} leads out: its top is {top}, the root {root}"
    );
    Ok(())
}

fn with_cwd(bench: &Bench, bundle: &mut Bundle, path: &str) -> Check {
    bundle.set("/process/cwd", json!(path));
    bundle.steps(&where_am_i());
    let Ok(container) = bench.try_create(bundle)? else {
        return Ok(());
    };
    if container.command("start")?.worked() {
        let end = container.wait()?;
        is_inside(&container.ran(end)?.results, path)?;
    }
    Ok(())
}

fn cwd_at_create(bench: &Bench) -> Check {
    for number in 3..14 {
        with_cwd(
            bench,
            &mut bench.bundle()?,
            &format!("/proc/self/fd/{number}"),
        )?;
    }
    with_cwd(bench, &mut bench.bundle()?, "/proc/1/root")?;
    with_cwd(bench, &mut bench.bundle()?, "/proc/self/cwd")
}

fn cwd_by_link(bench: &Bench) -> Check {
    for number in 3..14 {
        let mut bundle = bench.bundle()?;
        bundle.link("/srv/work", &format!("/proc/self/fd/{number}"))?;
        with_cwd(bench, &mut bundle, "/srv/work")?;
    }
    Ok(())
}

fn cwd_at_exec(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.link("/nine", "/proc/self/fd/9")?;
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    let mut paths: Vec<String> = (3..14).map(|fd| format!("/proc/self/fd/{fd}")).collect();
    paths.push("/nine".to_owned());
    for path in paths {
        let output = container.exec(&["--cwd", &path], &probe::arguments(&where_am_i()))?;
        is_inside(&probe::lines(&output.stdout), &path)?;
    }
    Ok(())
}

fn program_of_descriptor(bench: &Bench) -> Check {
    for number in 3..10 {
        let mut bundle = bench.bundle()?;
        let path = format!("/proc/self/fd/{number}");
        bundle.set("/process/args", json!([path]));
        let Ok(container) = bench.try_create(&bundle)? else {
            continue;
        };
        let started = container.command("start")?;
        // A runtime's start may return before the program is executed: a
        // program that ended with 127 or 1 and printed nothing was not found
        // either.
        if started.worked() {
            let end = container.wait()?;
            demand!(
                end != crate::bench::End::Code(0) && container.printed().is_empty(),
                "{path} ran: {end}"
            );
        }
    }
    Ok(())
}

fn cgroup_steps() -> Vec<Step> {
    vec![
        Step::Read("/sys/fs/cgroup/cgroup.procs".to_owned()),
        Step::List("/sys/fs/cgroup".to_owned()),
        Step::Read("/sys/fs/cgroup/cgroup.type".to_owned()),
        Step::World,
    ]
}

/// Directories in a cgroup mount: children of a cgroup.
fn is_own_cgroup(procs: &probe::Done, names: &Value) -> Check {
    let pids: Vec<_> = procs.text().split_whitespace().collect();
    demand!(pids == ["1"], "its processes are {pids:?}");
    let foreign = names.as_array().into_iter().flatten().any(|name| {
        name.as_str().is_some_and(|name| {
            name.contains("conformance") || name.ends_with(".slice") || name == "init.scope"
        })
    });
    demand!(!foreign, "it shows other cgroups: {names}");
    Ok(())
}

fn cgroup_mount(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.mount(
        "/sys/fs/cgroup",
        "cgroup",
        "cgroup",
        &["nosuid", "noexec", "nodev"],
    );
    let ran = bench.run(&mut bundle, &cgroup_steps())?;
    is_own_cgroup(ran.result(0)?, ran.result(1)?.value())?;
    // The machine's root cgroup has no type.
    demand!(ran.result(2)?.worked(), "it is the machine's root cgroup");
    let root = ran.world(3)?;
    let mount = root.mounts.iter().rfind(|m| m.point == "/sys/fs/cgroup");
    demand!(
        mount.is_some_and(|mount| !mount.root.contains("..")),
        "it is {mount:?}"
    );
    Ok(())
}

fn cgroup_of_all(bench: &Bench) -> Check {
    let world = bench.world(&mut bench.bundle()?)?;
    for line in world.cgroup.lines() {
        demand!(!line.contains(".."), "it is {line}");
        demand!(!line.starts_with("0::") || line == "0::/", "it is {line}");
    }
    Ok(())
}

fn forbidden_device(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/linux/resources/devices",
        json!([{ "allow": false, "access": "rwm" }]),
    );
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Mknod("/mem".to_owned(), 'c', 1, 1),
            Step::Open("/mem".to_owned(), libc::O_RDONLY),
            Step::Mknod("/kmsg".to_owned(), 'c', 1, 11),
            Step::Open("/kmsg".to_owned(), libc::O_RDONLY),
            Step::Mknod("/loop".to_owned(), 'b', 7, 0),
            Step::Open("/loop".to_owned(), libc::O_RDONLY),
        ],
    )?;
    for at in [1, 3, 5] {
        demand!(!ran.result(at)?.worked(), "device {at} opened");
    }
    Ok(())
}

const SESSION: u64 = -3_i64 as u64;

fn keyring(bench: &Bench) -> Check {
    let own = crate::sys::try_call(Call::Keyctl, 0, [0, SESSION, 0, 0, 0, 0]);
    let mut bundle = bench.bundle()?;
    let ran = bench.run(
        &mut bundle,
        &[Step::Call(Call::Keyctl, [0, SESSION, 0, 0, 0, 0])],
    )?;
    if let (Ok(own), Some(inside)) = (own, ran.result(0)?.value().as_i64()) {
        demand!(own != inside, "it is the caller's, {own}");
    }
    Ok(())
}

fn open_files(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    // start returns when the program was allowed to run, but it may not be
    // running yet.
    crate::bench::until("the program is executed", || {
        Ok(fs::read_link(format!("/proc/{}/exe", container.pid))
            .is_ok_and(|path| path.ends_with("probe")))
    })?;
    for entry in fs::read_dir(format!("/proc/{}/fd", container.pid))?.flatten() {
        let number = entry.file_name().to_string_lossy().into_owned();
        let link = fs::read_link(entry.path()).unwrap_or_default();
        demand!(
            ["0", "1", "2"].contains(&number.as_str()),
            "descriptor {number} is {}",
            link.display()
        );
    }
    Ok(())
}

fn old_root(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Stat("/".to_owned()),
            Step::Unmount("/".to_owned()),
            Step::Stat("/".to_owned()),
            Step::Stat("/proc/1/root/.".to_owned()),
            Step::List("/proc/1/root/..".to_owned()),
        ],
    )?;
    let root = ran.result(0)?.value();
    for at in [2, 3] {
        let found = ran.result(at)?.value();
        demand!(
            found["inode"] == root["inode"] && found["device"] == root["device"],
            "step {at} is another directory: {found}"
        );
    }
    demand!(
        ran.result(4)?
            .value()
            .as_array()
            .is_some_and(|names| names.contains(&json!("probe"))),
        "above the root there is {}",
        ran.result(4)?
    );
    Ok(())
}
