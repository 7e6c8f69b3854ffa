//! config-linux.md: namespaces, mappings of user namespaces, time offsets.

use std::fs;
use std::os::unix::fs::MetadataExt;

use serde_json::json;

use crate::bench::{Bench, Bundle};
use crate::clause::{Check, Clause, Try, command_line, demand, must, should};
use crate::needs::Need;
use crate::probe::Step;
use crate::sys::Call;

pub const CLAUSES: &[Clause] = &[
    must(
        "config-linux.md#namespaces",
        "a type without path is a new namespace: pid, network, mount, ipc, uts, cgroup",
        &[],
        new_namespaces,
    ),
    must(
        "config-linux.md#namespaces time",
        "a type without path is a new namespace: time",
        &[Need::Path("/proc/self/ns/time")],
        new_time_namespace,
    ),
    must(
        "config-linux.md#namespaces",
        "a type that is not listed is shared with the runtime",
        &[],
        inherited,
    ),
    must(
        "config-linux.md#namespaces path",
        "the process is in the namespace of the path: network, ipc, uts, cgroup",
        &[],
        joined,
    ),
    must(
        "config-linux.md#namespaces path",
        "the process is in the namespace of the path: pid",
        &[],
        joined_pid,
    ),
    must(
        "config-linux.md#namespaces path",
        "the process is in the namespace of the path: user",
        &[Need::UserNamespace],
        joined_user,
    ),
    must(
        "config-linux.md#namespaces path",
        "the process is in the namespace of the path: time",
        &[Need::Path("/proc/self/ns/time")],
        joined_time,
    ),
    must(
        "config-linux.md#namespaces path",
        "a path of another type is an error",
        &[],
        path_of_another_type,
    ),
    must(
        "config-linux.md#namespaces path",
        "a path that is not a namespace, or does not exist, is an error",
        &[],
        path_of_no_namespace,
    ),
    must(
        "config-linux.md#namespaces path",
        "a path that is not absolute is an error",
        &[],
        relative_path,
    ),
    must(
        "config-linux.md#namespaces",
        "a type that is listed twice is an error",
        &[],
        duplicates,
    ),
    must(
        "config-linux.md#namespaces type",
        "an unknown type is an error",
        &[],
        unknown_type,
    ),
    must(
        "config-linux.md#namespaces pid",
        "the program is process 1 and sees only the container's processes",
        &[],
        pid_namespace,
    ),
    must(
        "config-linux.md#namespaces network",
        "the container has only a loopback interface",
        &[],
        network_namespace,
    ),
    command_line(
        "runc: network",
        "the loopback interface of a new network namespace is up",
        &[],
        loopback_is_up,
    ),
    must(
        "config-linux.md#namespaces uts",
        "changing the hostname inside has no effect outside",
        &[],
        uts_namespace,
    ),
    must(
        "config-linux.md#namespaces cgroup",
        "the container's cgroup is the root of what it sees",
        &[Need::UnifiedTree],
        cgroup_namespace,
    ),
    must(
        "config-linux.md#namespaces mount",
        "what is mounted inside does not appear outside",
        &[],
        mount_namespace,
    ),
    must(
        "config-linux.md#user-namespace-mappings",
        "ids in the container are the ids on the machine that the mappings give",
        &[Need::UserNamespace],
        mapped_ids,
    ),
    must(
        "config-linux.md#user-namespace-mappings",
        "several ranges are mapped",
        &[Need::UserNamespace],
        several_ranges,
    ),
    must(
        "config-linux.md#user-namespace-mappings",
        "a container in a user namespace has /proc, /sys, /dev and its default devices",
        &[Need::UserNamespace],
        usual_mounts_in_user_namespace,
    ),
    must(
        "config-linux.md#user-namespace-mappings",
        "user, groups and capabilities apply inside the user namespace",
        &[Need::UserNamespace],
        user_inside,
    ),
    must(
        "config-linux.md#user-namespace-mappings",
        "the container's root has no power over the machine",
        &[Need::UserNamespace],
        no_power_outside,
    ),
    must(
        "config-linux.md#user-namespace-mappings",
        "the other namespaces belong to the user namespace: its root may mount and set the hostname",
        &[Need::UserNamespace],
        power_inside,
    ),
    should(
        "config-linux.md#user-namespace-mappings",
        "the owners of the root file system are not changed",
        &[Need::UserNamespace],
        owners_stay,
    ),
    must(
        "config-linux.md#user-namespace-mappings",
        "a bind mount whose source only the machine's root can reach works",
        &[Need::UserNamespace],
        unreachable_source,
    ),
    must(
        "config.md#valid-values",
        "mappings without a user namespace are an error",
        &[],
        mappings_alone,
    ),
    must(
        "config-linux.md#user-namespace-mappings",
        "mappings that overlap are an error",
        &[Need::UserNamespace],
        overlapping_mappings,
    ),
    must(
        "config-linux.md#offset-for-time-namespace",
        "monotonic and boottime are offset by secs",
        &[Need::Path("/proc/self/timens_offsets")],
        time_offsets,
    ),
    must(
        "config-linux.md#offset-for-time-namespace",
        "an unknown clock is an error",
        &[Need::Path("/proc/self/timens_offsets")],
        unknown_clock,
    ),
    must(
        "config-linux.md#offset-for-time-namespace",
        "offsets without a new time namespace are an error",
        &[],
        offsets_alone,
    ),
];

fn link(name: &str) -> Try<String> {
    Ok(fs::read_link(format!("/proc/self/ns/{name}"))?
        .to_string_lossy()
        .into_owned())
}

/// Types of the configuration and what `/proc/<pid>/ns` calls them.
const TYPES: [(&str, &str); 6] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
];

fn new_namespaces(bench: &Bench) -> Check {
    let world = bench.world(&mut bench.bundle()?)?;
    for (kind, name) in TYPES {
        demand!(
            world
                .namespaces
                .get(name)
                .is_some_and(|own| link(name).is_ok_and(|host| *own != host)),
            "{kind} is the runtime's"
        );
    }
    Ok(())
}

fn new_time_namespace(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.namespace("time", None);
    let world = bench.world(&mut bundle)?;
    demand!(
        world.namespaces.get("time") != Some(&link("time")?),
        "it is the runtime's"
    );
    Ok(())
}

fn inherited(bench: &Bench) -> Check {
    for (kind, name) in [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
        ("pid", "pid"),
        ("user", "user"),
        ("time", "time"),
    ] {
        let mut bundle = bench.bundle()?;
        bundle.without_namespace(kind);
        if kind == "uts" {
            bundle.remove("/hostname");
        }
        let world = bench.world(&mut bundle)?;
        demand!(
            world.namespaces.get(name) == link(name).ok().as_ref(),
            "{kind} is not the runtime's"
        );
    }
    Ok(())
}

/// A container whose namespace is joined, and its specification.
fn other(bench: &Bench) -> Try<Bundle> {
    let mut bundle = bench.bundle()?;
    bundle.steps(&[Step::Sleep(60_000)]);
    Ok(bundle)
}

fn joined(bench: &Bench) -> Check {
    let other = bench.start(&other(bench)?)?;
    for (kind, name) in [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("cgroup", "cgroup"),
    ] {
        let path = format!("/proc/{}/ns/{name}", other.pid);
        let mut bundle = bench.bundle()?;
        bundle.namespace(kind, Some(&path));
        if kind == "uts" {
            bundle.remove("/hostname");
        }
        let world = bench.world(&mut bundle)?;
        let wanted = fs::read_link(&path)?.to_string_lossy().into_owned();
        demand!(
            world.namespaces.get(name) == Some(&wanted),
            "{kind} is {:?}, not {wanted}",
            world.namespaces.get(name)
        );
    }
    Ok(())
}

fn joined_pid(bench: &Bench) -> Check {
    let other = bench.start(&other(bench)?)?;
    let path = format!("/proc/{}/ns/pid", other.pid);
    let mut bundle = bench.bundle()?;
    bundle.namespace("pid", Some(&path));
    let world = bench.world(&mut bundle)?;
    demand!(world.pid > 1, "it is process {}", world.pid);
    demand!(
        world.processes.contains(&1) && world.processes.contains(&world.pid),
        "it sees {:?}",
        world.processes
    );
    Ok(())
}

fn joined_user(bench: &Bench) -> Check {
    let mut first = other(bench)?;
    first.user_namespace(200_000)?;
    let other = bench.start(&first)?;
    let path = |name: &str| format!("/proc/{}/ns/{name}", other.pid);
    let mut bundle = bench.bundle()?;
    bundle.give_to(200_000, 200_000)?;
    bundle.namespace("user", Some(&path("user")));
    let world = bench.world(&mut bundle)?;
    let wanted = fs::read_link(path("user"))?.to_string_lossy().into_owned();
    demand!(
        world.namespaces.get("user") == Some(&wanted),
        "it is {:?}",
        world.namespaces.get("user")
    );
    demand!(world.uid == [0; 3], "its user is {:?}", world.uid);
    Ok(())
}

fn joined_time(bench: &Bench) -> Check {
    let mut first = other(bench)?;
    first.namespace("time", None);
    let other = bench.start(&first)?;
    let path = format!("/proc/{}/ns/time", other.pid);
    let mut bundle = bench.bundle()?;
    bundle.namespace("time", Some(&path));
    let world = bench.world(&mut bundle)?;
    let wanted = fs::read_link(&path)?.to_string_lossy().into_owned();
    demand!(
        world.namespaces.get("time") == Some(&wanted),
        "it is {:?}",
        world.namespaces.get("time")
    );
    Ok(())
}

fn path_of_another_type(bench: &Bench) -> Check {
    for (kind, name) in [("network", "uts"), ("ipc", "net"), ("pid", "ipc")] {
        let mut bundle = bench.bundle()?;
        bundle.namespace(kind, Some(&format!("/proc/1/ns/{name}")));
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "{kind} with a path of {name} is taken");
    }
    Ok(())
}

fn path_of_no_namespace(bench: &Bench) -> Check {
    for path in ["/proc/1/cmdline", "/no/such/namespace"] {
        let mut bundle = bench.bundle()?;
        bundle.namespace("network", Some(path));
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "{path} is taken");
    }
    Ok(())
}

fn relative_path(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    // It exists, seen from the directory that the runtime is called in.
    std::os::unix::fs::symlink("/proc/1/ns/net", bench.folder().join("net"))?;
    bundle.namespace("network", Some("net"));
    bench.refuses(&bundle)?;
    Ok(())
}

fn duplicates(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.push("/linux/namespaces", json!({ "type": "uts" }));
    bench.refuses(&bundle)?;
    Ok(())
}

fn unknown_type(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.push("/linux/namespaces", json!({ "type": "nosuch" }));
    bench.refuses(&bundle)?;
    Ok(())
}

fn pid_namespace(bench: &Bench) -> Check {
    let world = bench.world(&mut bench.bundle()?)?;
    demand!(world.pid == 1, "it is process {}", world.pid);
    demand!(world.processes == [1], "it sees {:?}", world.processes);
    Ok(())
}

fn network_namespace(bench: &Bench) -> Check {
    let world = bench.world(&mut bench.bundle()?)?;
    let names: Vec<_> = world.interfaces.keys().collect();
    demand!(names == ["lo"], "it has {names:?}");
    Ok(())
}

fn loopback_is_up(bench: &Bench) -> Check {
    let world = bench.world(&mut bench.bundle()?)?;
    demand!(world.interfaces.get("lo") == Some(&true), "it is down");
    Ok(())
}

fn uts_namespace(bench: &Bench) -> Check {
    let before = nix::unistd::gethostname()?;
    let mut bundle = bench.bundle()?;
    let ran = bench.run(
        &mut bundle,
        &[Step::Call(Call::Sethostname, [0; 6]), Step::World],
    )?;
    demand!(
        ran.result(0)?.worked(),
        "it cannot be set: {}",
        ran.result(0)?
    );
    demand!(ran.world(1)?.hostname.is_empty(), "it did not change");
    demand!(
        nix::unistd::gethostname()? == before,
        "the machine's changed"
    );
    Ok(())
}

fn cgroup_namespace(bench: &Bench) -> Check {
    let world = bench.world(&mut bench.bundle()?)?;
    let line = world.cgroup.lines().find(|line| line.starts_with("0::"));
    demand!(line == Some("0::/"), "it sees {line:?}");
    Ok(())
}

fn mount_namespace(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let shared = bench.directory("shared")?;
    bundle.bind("/data", &shared, &["bind", "rw"]);
    let flags = 0;
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Mount("x".into(), "/data".into(), "tmpfs".into(), flags),
            Step::Create("/data/inside".to_owned()),
        ],
    )?;
    demand!(ran.result(1)?.worked(), "{}", ran.result(1)?);
    demand!(
        fs::read_dir(&shared)?.next().is_none(),
        "the file is in the machine's directory"
    );
    Ok(())
}

fn mapped_ids(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    bundle.file("/etc/of-user-5", "")?;
    std::os::unix::fs::chown(
        bundle.root().join("etc/of-user-5"),
        Some(300_005),
        Some(300_006),
    )?;
    let ran = bench.run(
        &mut bundle,
        &[
            Step::World,
            Step::Stat("/etc/of-user-5".to_owned()),
            Step::Create("/made".to_owned()),
            Step::Read("/proc/self/uid_map".to_owned()),
        ],
    )?;
    let world = ran.world(0)?;
    demand!(
        world.uid == [0; 3] && world.gid == [0; 3],
        "it is {:?} {:?}",
        world.uid,
        world.gid
    );
    let found = ran.result(1)?.value();
    demand!(
        found["uid"] == 5 && found["gid"] == 6,
        "a file of 300005:300006 is {}:{}",
        found["uid"],
        found["gid"]
    );
    demand!(ran.result(2)?.worked(), "no file: {}", ran.result(2)?);
    let made = fs::metadata(bundle.root().join("made"))?;
    demand!(
        made.uid() == 300_000 && made.gid() == 300_000,
        "the machine sees {}:{}",
        made.uid(),
        made.gid()
    );
    let map: Vec<_> = ran.result(3)?.text().split_whitespace().collect();
    demand!(map == ["0", "300000", "65536"], "the map is {map:?}");
    Ok(())
}

fn several_ranges(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    let ranges = json!([
        { "containerID": 0, "hostID": 300_000, "size": 10 },
        { "containerID": 1000, "hostID": 500_000, "size": 5 },
    ]);
    bundle.set("/linux/uidMappings", ranges.clone());
    bundle.set("/linux/gidMappings", ranges);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Read("/proc/self/uid_map".to_owned()),
            Step::Read("/proc/self/gid_map".to_owned()),
        ],
    )?;
    for at in [0, 1] {
        let map: Vec<_> = ran.result(at)?.text().split_whitespace().collect();
        demand!(
            map == ["0", "300000", "10", "1000", "500000", "5"],
            "the map is {map:?}"
        );
    }
    Ok(())
}

fn usual_mounts_in_user_namespace(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    let ran = bench.run(
        &mut bundle,
        &[
            Step::World,
            Step::Write("/dev/null".to_owned(), "x".to_owned()),
            Step::Open("/dev/zero".to_owned(), libc::O_RDWR),
            Step::Open("/dev/urandom".to_owned(), libc::O_RDONLY),
            Step::Open("/dev/ptmx".to_owned(), libc::O_RDWR | libc::O_NOCTTY),
        ],
    )?;
    let world = ran.world(0)?;
    for point in ["/proc", "/sys", "/dev", "/dev/pts", "/dev/shm"] {
        demand!(
            world.mounts.iter().any(|mount| mount.point == point),
            "{point} is not mounted"
        );
    }
    for at in 1..5 {
        demand!(ran.result(at)?.worked(), "device {at}: {}", ran.result(at)?);
    }
    Ok(())
}

fn user_inside(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    bundle.set(
        "/process/user",
        json!({ "uid": 7, "gid": 8, "additionalGids": [9] }),
    );
    bundle.set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_CHOWN"], "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"],
            "inheritable": ["CAP_CHOWN"], "ambient": ["CAP_CHOWN"],
        }),
    );
    let world = bench.world(&mut bundle)?;
    demand!(
        world.uid == [7; 3] && world.gid == [8; 3] && world.groups.contains(&9),
        "it is {:?} {:?} {:?}",
        world.uid,
        world.gid,
        world.groups
    );
    demand!(world.effective == 1, "effective is {:x}", world.effective);
    Ok(())
}

fn no_power_outside(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let outside = bench.directory("outside")?;
    fs::write(outside.join("of-root"), "")?;
    bundle.user_namespace(300_000)?;
    bundle.bind("/outside", &outside, &["bind"]);
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Write("/outside/of-root".to_owned(), "x".to_owned()),
            Step::Mknod("/node".to_owned(), 'c', 1, 1),
            Step::Write("/proc/sys/kernel/panic".to_owned(), "0".to_owned()),
        ],
    )?;
    for at in 0..3 {
        demand!(!ran.result(at)?.worked(), "step {at} worked");
    }
    Ok(())
}

fn power_inside(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Mount("x".into(), "/tmp".into(), "tmpfs".into(), 0),
            Step::Call(Call::Sethostname, [0; 6]),
        ],
    )?;
    demand!(ran.result(0)?.worked(), "mount: {}", ran.result(0)?);
    demand!(ran.result(1)?.worked(), "hostname: {}", ran.result(1)?);
    Ok(())
}

fn owners_stay(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.file("/etc/of-root", "")?;
    bundle.user_namespace(300_000)?;
    std::os::unix::fs::chown(bundle.root().join("etc/of-root"), Some(0), Some(0))?;
    bench.world(&mut bundle)?;
    let owner = fs::metadata(bundle.root().join("etc/of-root"))?.uid();
    demand!(owner == 0, "a file of user 0 belongs to {owner} now");
    Ok(())
}

fn unreachable_source(bench: &Bench) -> Check {
    use std::os::unix::fs::PermissionsExt;
    let closed = bench.directory("closed")?;
    let source = closed.join("source");
    fs::create_dir(&source)?;
    fs::write(source.join("file"), "reached")?;
    fs::set_permissions(&closed, fs::Permissions::from_mode(0o700))?;
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    bundle.bind("/data", &source, &["bind", "ro"]);
    let ran = bench.run(&mut bundle, &[Step::Read("/data/file".to_owned())])?;
    demand!(ran.result(0)?.text() == "reached", "{}", ran.result(0)?);
    Ok(())
}

fn mappings_alone(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let mapping = json!([{ "containerID": 0, "hostID": 300_000, "size": 10 }]);
    bundle.set("/linux/uidMappings", mapping.clone());
    bundle.set("/linux/gidMappings", mapping);
    bench.refuses(&bundle)?;
    Ok(())
}

fn overlapping_mappings(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    bundle.set(
        "/linux/uidMappings",
        json!([
            { "containerID": 0, "hostID": 300_000, "size": 10 },
            { "containerID": 5, "hostID": 400_000, "size": 10 },
        ]),
    );
    bench.refuses(&bundle)?;
    Ok(())
}

fn time_offsets(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.namespace("time", None);
    bundle.set(
        "/linux/timeOffsets",
        json!({
            "monotonic": { "secs": 172_800, "nanosecs": 5 },
            "boottime": { "secs": 604_800 },
        }),
    );
    let world = bench.world(&mut bundle)?;
    let monotonic = world.monotonic - crate::sys::clock(libc::CLOCK_MONOTONIC)?;
    let boottime = world.boottime - crate::sys::clock(libc::CLOCK_BOOTTIME)?;
    demand!(
        (172_740..=172_801).contains(&monotonic),
        "monotonic is off by {monotonic}"
    );
    demand!(
        (604_740..=604_801).contains(&boottime),
        "boottime is off by {boottime}"
    );
    Ok(())
}

fn unknown_clock(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.namespace("time", None);
    bundle.set("/linux/timeOffsets", json!({ "realtime": { "secs": 1 } }));
    bench.refuses(&bundle)?;
    Ok(())
}

fn offsets_alone(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/timeOffsets", json!({ "monotonic": { "secs": 1 } }));
    bench.refuses(&bundle)?;
    Ok(())
}
