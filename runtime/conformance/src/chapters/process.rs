//! config.md, Process: arguments, user, limits and priorities.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use crate::bench::{Bench, End};
use crate::clause::{Check, Clause, command_line, demand, must};
use crate::needs::Need;
use crate::probe::world::World;
use crate::probe::{self, Step};

pub const CLAUSES: &[Clause] = &[
    must(
        "config.md#process cwd",
        "it is the program's working directory",
        &[],
        cwd,
    ),
    must(
        "config.md#process cwd",
        "a path that is not absolute is an error",
        &[],
        relative_cwd,
    ),
    command_line(
        "runc: process cwd",
        "a missing directory is created",
        &[],
        cwd_is_made,
    ),
    must(
        "config.md#process env",
        "the program has exactly these variables, and none of the runtime's",
        &[],
        env,
    ),
    must(
        "config.md#process args",
        "arguments are passed unchanged, including empty ones and those with spaces",
        &[],
        args,
    ),
    must(
        "config.md#process args",
        "a name without a slash is searched in PATH of env",
        &[],
        args_in_path,
    ),
    must(
        "config.md#process args",
        "an empty list is an error",
        &[],
        empty_args,
    ),
    must(
        "config.md#process args",
        "a file that cannot be executed is an error",
        &[],
        not_executable,
    ),
    must(
        "config.md#process",
        "standard input, output and error are those of create",
        &[],
        standard_streams,
    ),
    must(
        "config.md#process consoleSize",
        "it is ignored without a terminal",
        &[],
        console_size_alone,
    ),
    must(
        "config.md#posix-process rlimits",
        "soft and hard limit are as configured, for each type",
        &[],
        rlimits,
    ),
    must(
        "config.md#posix-process rlimits",
        "a limit can be raised above the runtime's own",
        &[Need::Capability("CAP_SYS_RESOURCE")],
        raised_rlimit,
    ),
    must(
        "config.md#posix-process rlimits",
        "a type that the kernel does not know is an error",
        &[],
        unknown_rlimit,
    ),
    must(
        "config.md#posix-process rlimits",
        "a type that is listed twice is an error",
        &[],
        duplicate_rlimit,
    ),
    must(
        "config.md#posix-process rlimits",
        "a soft limit above the hard one is an error",
        &[],
        soft_above_hard,
    ),
    must(
        "config.md#linux-process noNewPrivileges",
        "true: a set-user-ID program gains nothing",
        &[],
        no_new_privileges,
    ),
    must(
        "config.md#linux-process noNewPrivileges",
        "false or absent: a set-user-ID program gains its owner's id",
        &[],
        new_privileges,
    ),
    must(
        "config.md#linux-process oomScoreAdj",
        "it is set",
        &[],
        oom_score,
    ),
    must(
        "config.md#linux-process oomScoreAdj",
        "absent: it stays as it is for the runtime's caller",
        &[],
        oom_score_stays,
    ),
    must(
        "config.md#linux-process scheduler",
        "SCHED_BATCH with a nice value",
        &[],
        batch,
    ),
    must("config.md#linux-process scheduler", "SCHED_IDLE", &[], idle),
    must(
        "config.md#linux-process scheduler",
        "SCHED_FIFO with a priority and SCHED_FLAG_RESET_ON_FORK",
        &[Need::Capability("CAP_SYS_NICE")],
        fifo,
    ),
    must(
        "config.md#linux-process scheduler",
        "SCHED_DEADLINE with runtime, deadline and period",
        &[Need::Capability("CAP_SYS_NICE")],
        deadline,
    ),
    must(
        "config.md#linux-process scheduler",
        "an unknown policy or flag is an error",
        &[],
        unknown_policy,
    ),
    must(
        "config.md#linux-process ioPriority",
        "class and priority are set",
        &[],
        io_priority,
    ),
    must(
        "config.md#linux-process ioPriority",
        "an unknown class or a priority beyond 7 is an error",
        &[],
        odd_io_priority,
    ),
    must(
        "config.md#linux-process execCPUAffinity",
        "it does not apply to the container's first process",
        &[Need::Processors(2)],
        affinity_of_the_first,
    ),
    must(
        "config.md#linux-process execCPUAffinity",
        "final: the executed process runs on these processors",
        &[Need::Processors(2)],
        affinity_final,
    ),
    must(
        "config.md#linux-process execCPUAffinity",
        "initial alone: the process can be executed and is not permanently bound to processors outside its cpuset",
        &[Need::Processors(2)],
        affinity_initial,
    ),
    must(
        "config.md#linux-process execCPUAffinity",
        "an invalid list of processors is an error",
        &[],
        broken_affinity,
    ),
    must(
        "config.md#user uid gid",
        "real, effective and saved ids are set",
        &[],
        ids,
    ),
    must(
        "config.md#user additionalGids",
        "the supplementary groups are exactly these",
        &[],
        additional_groups,
    ),
    must(
        "config.md#user additionalGids",
        "absent: none of the runtime's groups remains",
        &[],
        no_groups,
    ),
    must("config.md#user umask", "it is set", &[], umask),
];

fn cwd(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.directory("/srv/data")?;
    bundle.set("/process/cwd", json!("/srv/data"));
    let world = bench.world(&mut bundle)?;
    demand!(
        world.cwd.as_deref() == Some("/srv/data"),
        "it is {:?}",
        world.cwd
    );
    Ok(())
}

fn relative_cwd(bench: &Bench) -> Check {
    for path in ["etc", "./etc", ""] {
        let mut bundle = bench.bundle()?;
        bundle.set("/process/cwd", json!(path));
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "{path:?} is taken");
    }
    Ok(())
}

fn cwd_is_made(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/cwd", json!("/made/for/it"));
    let world = bench.world(&mut bundle)?;
    demand!(
        world.cwd.as_deref() == Some("/made/for/it"),
        "it is {:?}",
        world.cwd
    );
    Ok(())
}

fn env(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let wanted = ["PATH=/", "A=1", "EMPTY=", "SPACES=a b  c", "EQUALS=a=b"];
    bundle.set("/process/env", json!(wanted));
    bundle.steps(&[Step::World]);
    bundle.save()?;
    let id = bench.id();
    let folder = bundle.folder().to_string_lossy().into_owned();
    let out = bench.path("out");
    let status = bench
        .command(&["create", "--bundle", &folder, &id])
        .env("OF_THE_CALLER", "1")
        .stdout(fs::File::create(&out)?)
        .status()?;
    demand!(status.success(), "create failed");
    bench.must(&["start", &id])?;
    crate::bench::until("the program has printed", || {
        Ok(fs::read_to_string(&out)?.ends_with('\n'))
    })?;
    let lines = probe::lines(&fs::read_to_string(&out)?);
    let world: World = serde_json::from_value(lines[0].value().clone())?;
    for variable in wanted {
        demand!(
            world.env.iter().any(|have| have == variable),
            "{variable} is not in {:?}",
            world.env
        );
    }
    demand!(
        !world
            .env
            .iter()
            .any(|have| have.starts_with("OF_THE_CALLER")),
        "it has the caller's variables: {:?}",
        world.env
    );
    // Runtimes may add HOME if it is absent.
    let further: Vec<_> = world
        .env
        .iter()
        .filter(|have| !wanted.contains(&have.as_str()) && !have.starts_with("HOME="))
        .collect();
    demand!(further.is_empty(), "it has {further:?} too");
    Ok(())
}

fn args(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let mut words = probe::arguments(&[Step::World]);
    words.extend(["", "a b", "\"quoted\"", "-x", "ü\n"].map(str::to_owned));
    bundle.set("/process/args", json!(words));
    let container = bench.start(&bundle)?;
    let end = container.wait()?;
    let world = container.ran(end)?.world(0)?;
    demand!(world.args == words, "they are {:?}", world.args);
    Ok(())
}

fn args_in_path(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.directory("/opt/tools")?;
    fs::rename(
        bundle.root().join("probe"),
        bundle.root().join("opt/tools/tool"),
    )?;
    bundle.set("/process/env", json!(["PATH=/no/such:/opt/tools"]));
    let mut words = probe::arguments(&[Step::World]);
    words[0] = "tool".to_owned();
    bundle.set("/process/args", json!(words));
    let container = bench.start(&bundle)?;
    let end = container.wait()?;
    let world = container.ran(end)?.world(0)?;
    demand!(world.args[0] == "tool", "its name is {}", world.args[0]);
    Ok(())
}

fn empty_args(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/args", json!([]));
    bench.refuses(&bundle)?;
    Ok(())
}

fn not_executable(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/text", "no program")?;
    bundle.set("/process/args", json!(["/text"]));
    if let Ok(container) = bench.try_create(&bundle)? {
        demand!(
            !container.command("start")?.worked(),
            "neither create nor start failed"
        );
    }
    Ok(())
}

fn standard_streams(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Read("/proc/self/fd/0".to_owned())]);
    bundle.save()?;
    let input = bench.path("input");
    fs::write(&input, "what create was given")?;
    let id = bench.id();
    let folder = bundle.folder().to_string_lossy().into_owned();
    let out = bench.path("out");
    let status = bench
        .command(&["create", "--bundle", &folder, &id])
        .stdin(fs::File::open(&input)?)
        .stdout(fs::File::create(&out)?)
        .status()?;
    demand!(status.success(), "create failed");
    bench.must(&["start", &id])?;
    crate::bench::until("the program has printed", || {
        Ok(fs::read_to_string(&out)?.ends_with('\n'))
    })?;
    let lines = probe::lines(&fs::read_to_string(&out)?);
    demand!(
        lines[0].text() == "what create was given",
        "its input is {}",
        lines[0]
    );
    Ok(())
}

fn console_size_alone(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/consoleSize", json!({ "height": 25, "width": 80 }));
    bench.world(&mut bundle)?;
    Ok(())
}

fn rlimits(bench: &Bench) -> Check {
    let wanted = [
        ("RLIMIT_AS", 1_u64 << 40, 1_u64 << 41),
        ("RLIMIT_CORE", 0, 4096),
        ("RLIMIT_CPU", 3000, 3600),
        ("RLIMIT_DATA", 1 << 32, 1 << 33),
        ("RLIMIT_FSIZE", 1 << 30, 1 << 31),
        ("RLIMIT_LOCKS", 10, 20),
        ("RLIMIT_MEMLOCK", 1000, 2000),
        ("RLIMIT_MSGQUEUE", 1000, 2000),
        ("RLIMIT_NICE", 0, 0),
        ("RLIMIT_NOFILE", 100, 200),
        ("RLIMIT_NPROC", 100, 200),
        ("RLIMIT_RSS", 1 << 30, 1 << 31),
        ("RLIMIT_RTPRIO", 0, 0),
        ("RLIMIT_RTTIME", 1000, 2000),
        ("RLIMIT_SIGPENDING", 10, 20),
        ("RLIMIT_STACK", 1 << 22, 1 << 23),
    ];
    let mut bundle = bench.bundle()?;
    let list: Vec<_> = wanted
        .iter()
        .map(|(name, soft, hard)| json!({ "type": name, "soft": soft, "hard": hard }))
        .collect();
    bundle.set("/process/rlimits", json!(list));
    let world = bench.world(&mut bundle)?;
    for (name, soft, hard) in wanted {
        let have = world.limits.get(name);
        demand!(
            have == Some(&(soft, hard)),
            "{name} is {have:?}, not {soft} and {hard}"
        );
    }
    Ok(())
}

fn raised_rlimit(bench: &Bench) -> Check {
    let (_, hard) = nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE)?;
    let mut bundle = bench.bundle()?;
    let above = hard + 1;
    bundle.set(
        "/process/rlimits",
        json!([{ "type": "RLIMIT_NOFILE", "soft": above, "hard": above }]),
    );
    let world = bench.world(&mut bundle)?;
    let have = world.limits.get("RLIMIT_NOFILE");
    demand!(have == Some(&(above, above)), "it is {have:?}");
    Ok(())
}

fn unknown_rlimit(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/process/rlimits",
        json!([{ "type": "RLIMIT_NOSUCH", "soft": 1, "hard": 1 }]),
    );
    bench.refuses(&bundle)?;
    Ok(())
}

fn duplicate_rlimit(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let limit = json!({ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 100 });
    bundle.set("/process/rlimits", json!([limit, limit]));
    bench.refuses(&bundle)?;
    Ok(())
}

fn soft_above_hard(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/process/rlimits",
        json!([{ "type": "RLIMIT_NOFILE", "soft": 200, "hard": 100 }]),
    );
    bench.refuses_to_run(&mut bundle)?;
    Ok(())
}

/// The effective user of a set-user-ID program that user 1000 runs.
fn set_user_id(
    bench: &Bench,
    no_new_privileges: Option<bool>,
) -> crate::clause::Try<(World, World)> {
    let mut bundle = bench.bundle()?;
    let program = bundle.root().join("become-root");
    fs::copy(bundle.root().join("probe"), &program)?;
    fs::set_permissions(&program, fs::Permissions::from_mode(0o4755))?;
    if let Some(value) = no_new_privileges {
        bundle.set("/process/noNewPrivileges", json!(value));
    }
    bundle.set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let ran = bench.run(
        &mut bundle,
        &[
            Step::World,
            Step::Program("/become-root".to_owned(), vec![Step::World]),
        ],
    )?;
    let inner = &ran.result(1)?.value()["lines"][0]["Ok"];
    Ok((ran.world(0)?, serde_json::from_value(inner.clone())?))
}

fn no_new_privileges(bench: &Bench) -> Check {
    let (own, inner) = set_user_id(bench, Some(true))?;
    demand!(own.no_new_privileges, "the flag is not set");
    demand!(
        inner.uid[1] == 1000,
        "the program became user {}",
        inner.uid[1]
    );
    Ok(())
}

fn new_privileges(bench: &Bench) -> Check {
    for value in [Some(false), None] {
        let (own, inner) = set_user_id(bench, value)?;
        demand!(!own.no_new_privileges, "{value:?}: the flag is set");
        demand!(
            inner.uid[1] == 0,
            "{value:?}: the program is user {}",
            inner.uid[1]
        );
    }
    Ok(())
}

fn oom_score(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/oomScoreAdj", json!(321));
    let world = bench.world(&mut bundle)?;
    demand!(
        world.oom_score_adj == "321",
        "it is {}",
        world.oom_score_adj
    );
    Ok(())
}

fn oom_score_stays(bench: &Bench) -> Check {
    fs::write("/proc/self/oom_score_adj", "123")?;
    let world = bench.world(&mut bench.bundle()?)?;
    demand!(
        world.oom_score_adj == "123",
        "it is {}",
        world.oom_score_adj
    );
    Ok(())
}

fn scheduled(
    bench: &Bench,
    scheduler: serde_json::Value,
) -> crate::clause::Try<crate::sys::Scheduling> {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/scheduler", scheduler);
    let world = bench.world(&mut bundle)?;
    Ok(world.scheduling.unwrap_or_default())
}

fn batch(bench: &Bench) -> Check {
    let found = scheduled(bench, json!({ "policy": "SCHED_BATCH", "nice": 5 }))?;
    demand!(found.policy == 3 && found.nice == 5, "it is {found:?}");
    Ok(())
}

fn idle(bench: &Bench) -> Check {
    let found = scheduled(bench, json!({ "policy": "SCHED_IDLE" }))?;
    demand!(found.policy == 5, "it is {found:?}");
    Ok(())
}

fn fifo(bench: &Bench) -> Check {
    let found = scheduled(
        bench,
        json!({ "policy": "SCHED_FIFO", "priority": 7, "flags": ["SCHED_FLAG_RESET_ON_FORK"] }),
    )?;
    demand!(
        found.policy == 1 && found.priority == 7 && found.flags & 1 == 1,
        "it is {found:?}"
    );
    Ok(())
}

fn deadline(bench: &Bench) -> Check {
    let found = scheduled(
        bench,
        json!({
            "policy": "SCHED_DEADLINE",
            "runtime": 1_000_000,
            "deadline": 50_000_000,
            "period": 100_000_000,
        }),
    )?;
    demand!(
        found.policy == 6
            && found.runtime == 1_000_000
            && found.deadline == 50_000_000
            && found.period == 100_000_000,
        "it is {found:?}"
    );
    Ok(())
}

fn unknown_policy(bench: &Bench) -> Check {
    for scheduler in [
        json!({ "policy": "SCHED_NOSUCH" }),
        json!({ "policy": "SCHED_BATCH", "flags": ["SCHED_FLAG_NOSUCH"] }),
    ] {
        let mut bundle = bench.bundle()?;
        bundle.set("/process/scheduler", scheduler.clone());
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "{scheduler} is taken");
    }
    Ok(())
}

fn io_priority(bench: &Bench) -> Check {
    for (class, number, priority) in [("IOPRIO_CLASS_BE", 2, 3), ("IOPRIO_CLASS_IDLE", 3, 4)] {
        let mut bundle = bench.bundle()?;
        bundle.set(
            "/process/ioPriority",
            json!({ "class": class, "priority": priority }),
        );
        let world = bench.world(&mut bundle)?;
        demand!(
            world.io_priority == Some((number, priority)),
            "{class} {priority} became {:?}",
            world.io_priority
        );
    }
    Ok(())
}

fn odd_io_priority(bench: &Bench) -> Check {
    for priority in [
        json!({ "class": "IOPRIO_CLASS_NOSUCH", "priority": 1 }),
        json!({ "class": "IOPRIO_CLASS_BE", "priority": 8 }),
    ] {
        let mut bundle = bench.bundle()?;
        bundle.set("/process/ioPriority", priority.clone());
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "{priority} is taken");
    }
    Ok(())
}

/// The processors of a process that `exec` put into a container.
fn executed_affinity(bench: &Bench, affinity: serde_json::Value) -> crate::clause::Try<Vec<usize>> {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    let mut process = bundle.config["process"].clone();
    process["args"] = json!(probe::arguments(&[Step::World]));
    process["execCPUAffinity"] = affinity;
    let path = bench.path("process");
    fs::write(&path, process.to_string())?;
    let output = container.exec(&["--process", &path.to_string_lossy()], &[])?;
    demand!(output.worked(), "exec failed: {}", output.stderr.trim());
    let lines = probe::lines(&output.stdout);
    let value = lines.first().map(|done| done.value().clone());
    let world: World = serde_json::from_value(value.unwrap_or_default())?;
    Ok(world.affinity)
}

fn affinity_of_the_first(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/process/execCPUAffinity",
        json!({ "initial": "0", "final": "0" }),
    );
    let world = bench.world(&mut bundle)?;
    demand!(
        world.affinity == crate::sys::affinity()?,
        "it is bound to {:?}",
        world.affinity
    );
    Ok(())
}

fn affinity_final(bench: &Bench) -> Check {
    for (list, wanted) in [("1", vec![1]), ("0-1", vec![0, 1]), ("0", vec![0])] {
        let found = executed_affinity(bench, json!({ "initial": "0", "final": list }))?;
        demand!(found == wanted, "{list} became {found:?}");
    }
    Ok(())
}

fn affinity_initial(bench: &Bench) -> Check {
    let found = executed_affinity(bench, json!({ "initial": "1" }))?;
    demand!(!found.is_empty(), "it runs on {found:?}");
    Ok(())
}

fn broken_affinity(bench: &Bench) -> Check {
    for affinity in [json!({ "final": "x" }), json!({ "initial": "3-1" })] {
        let mut bundle = bench.bundle()?;
        bundle.steps(&[Step::Sleep(60_000)]);
        let container = bench.start(&bundle)?;
        let mut process = bundle.config["process"].clone();
        process["args"] = json!(probe::arguments(&[]));
        process["execCPUAffinity"] = affinity.clone();
        let path = bench.path("process");
        fs::write(&path, process.to_string())?;
        let output = container.exec(&["--process", &path.to_string_lossy()], &[])?;
        demand!(!output.worked(), "{affinity} is taken");
    }
    Ok(())
}

fn ids(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/process/user", json!({ "uid": 1234, "gid": 4321 }));
    let world = bench.world(&mut bundle)?;
    demand!(
        world.uid == [1234; 3] && world.gid == [4321; 3],
        "they are {:?} and {:?}",
        world.uid,
        world.gid
    );
    Ok(())
}

fn additional_groups(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/process/user",
        json!({ "uid": 1, "gid": 2, "additionalGids": [10, 65534, 11] }),
    );
    let world = bench.world(&mut bundle)?;
    let mut groups = world.groups;
    groups.retain(|&group| group != 2);
    groups.sort_unstable();
    demand!(groups == [10, 11, 65534], "they are {groups:?}");
    Ok(())
}

fn no_groups(bench: &Bench) -> Check {
    nix::unistd::setgroups(&[77.into(), 78.into()])?;
    let mut bundle = bench.bundle()?;
    bundle.set("/process/user", json!({ "uid": 1, "gid": 2 }));
    let world = bench.world(&mut bundle)?;
    demand!(
        world.groups.iter().all(|&group| group == 2),
        "they are {:?}",
        world.groups
    );
    Ok(())
}

fn umask(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/process/user",
        json!({ "uid": 0, "gid": 0, "umask": 0o137 }),
    );
    let ran = bench.run(
        &mut bundle,
        &[Step::World, Step::Create("/made".to_owned())],
    )?;
    demand!(ran.end == End::Code(0), "{}", ran.end);
    let found = ran.world(0)?.umask;
    demand!(found == 0o137, "it is {found:o}");
    let mode = fs::metadata(bundle.root().join("made"))?
        .permissions()
        .mode();
    demand!(mode & 0o777 == 0o640, "a new file has mode {mode:o}");
    Ok(())
}
