//! config-linux.md, Control groups.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::bench::{Bench, Bundle, Container, End};
use crate::clause::{Check, Clause, Problem, Try, demand, must, should};
use crate::needs::{self, Need};
use crate::probe::Step;

pub const CLAUSES: &[Clause] = &[
    must(
        "config-linux.md#cgroups-path",
        "an absolute path is relative to the cgroup mount point, and is created and removed",
        &[Need::UnifiedTree],
        absolute_path,
    ),
    must(
        "config-linux.md#cgroups-path",
        "a relative path leads to the same place each time",
        &[Need::UnifiedTree],
        relative_path,
    ),
    must(
        "config-linux.md#cgroups-path",
        "without a path each container has its own cgroup",
        &[Need::UnifiedTree],
        own_cgroup,
    ),
    must(
        "config-linux.md#cgroups-path",
        "a path with .. does not lead out of the cgroup mount",
        &[Need::UnifiedTree],
        path_upwards,
    ),
    must(
        "config-linux.md#memory limit",
        "it is memory.max, and a process that exceeds it is killed",
        &[Need::Controller("memory")],
        memory_limit,
    ),
    must(
        "config-linux.md#memory limit",
        "-1 is no limit",
        &[Need::Controller("memory")],
        memory_unlimited,
    ),
    must(
        "config-linux.md#memory reservation",
        "it is memory.low",
        &[Need::Controller("memory")],
        memory_reservation,
    ),
    must(
        "config-linux.md#memory swap",
        "memory and swap together: memory.swap.max is the difference to the limit",
        &[Need::Controller("memory"), Need::Path("/proc/swaps")],
        memory_swap,
    ),
    must(
        "config-linux.md#memory swap",
        "less than the limit is an error",
        &[Need::Controller("memory")],
        swap_below_limit,
    ),
    must(
        "config-linux.md#memory checkBeforeUpdate",
        "a new limit below the current usage is rejected",
        &[Need::Controller("memory")],
        check_before_update,
    ),
    must(
        "config-linux.md#cpu shares",
        "more shares give more weight, and no value is lost",
        &[Need::Controller("cpu")],
        cpu_shares,
    ),
    must(
        "config-linux.md#cpu quota period",
        "they are cpu.max, and the container gets no more",
        &[Need::Controller("cpu")],
        cpu_quota,
    ),
    must(
        "config-linux.md#cpu quota",
        "-1 is no limit",
        &[Need::Controller("cpu")],
        cpu_unlimited,
    ),
    must(
        "config-linux.md#cpu burst",
        "it is cpu.max.burst",
        &[Need::Controller("cpu"), Need::Kernel(5, 14)],
        cpu_burst,
    ),
    must(
        "config-linux.md#cpu idle",
        "it is cpu.idle",
        &[Need::Controller("cpu"), Need::Kernel(5, 15)],
        cpu_idle,
    ),
    must(
        "config-linux.md#cpu cpus mems",
        "the processes run only on these processors and memory nodes",
        &[Need::Controller("cpuset")],
        cpuset,
    ),
    must(
        "config-linux.md#cpu cpus",
        "a processor that does not exist is an error",
        &[Need::Controller("cpuset")],
        no_such_processor,
    ),
    must(
        "config-linux.md#pids limit",
        "no more tasks can be created",
        &[Need::Controller("pids")],
        pids_limit,
    ),
    must(
        "config-linux.md#pids limit",
        "-1 is no limit",
        &[Need::Controller("pids")],
        pids_unlimited,
    ),
    must(
        "config-linux.md#block-io weight",
        "it is io.weight or io.bfq.weight",
        &[
            Need::Controller("io"),
            Need::Path("/sys/fs/cgroup/system.slice/io.weight"),
        ],
        io_weight,
    ),
    must(
        "config-linux.md#block-io throttle",
        "rates of bytes and operations are io.max of the device",
        &[Need::Controller("io"), Need::Disk],
        io_throttle,
    ),
    must(
        "config-linux.md#huge-page-limits",
        "the limit applies to its page size",
        &[Need::Controller("hugetlb"), Need::HugePages],
        huge_pages,
    ),
    must(
        "config-linux.md#huge-page-limits pageSize",
        "a size that the kernel does not have is an error",
        &[Need::UnifiedTree],
        huge_pages_of_no_size,
    ),
    must(
        "config-linux.md#rdma",
        "handles and objects of a device are rdma.max",
        &[
            Need::Controller("rdma"),
            Need::Path("/sys/class/infiniband"),
        ],
        rdma,
    ),
    must(
        "config-linux.md#unified",
        "each key is a file of the cgroup, with several lines if it has several",
        &[Need::Controller("memory"), Need::Controller("pids")],
        unified,
    ),
    must(
        "config-linux.md#unified",
        "files that belong to no controller are written too",
        &[Need::UnifiedTree],
        unified_core,
    ),
    must(
        "config-linux.md#unified",
        "a missing controller, and a key that is a path, are errors",
        &[Need::UnifiedTree],
        unified_errors,
    ),
    should(
        "config-linux.md#cgroup-ownership",
        "with a user namespace and a writable cgroup mount the cgroup belongs to the container's root",
        &[Need::UnifiedTree, Need::UserNamespace],
        ownership,
    ),
    should(
        "config-linux.md#cgroup-ownership",
        "with a read-only cgroup mount it does not",
        &[Need::UnifiedTree, Need::UserNamespace],
        no_ownership,
    ),
];

/// The cgroup of a container as seen from the machine.
fn cgroup(container: &Container) -> Try<PathBuf> {
    let text = fs::read_to_string(format!("/proc/{}/cgroup", container.pid))?;
    let path = text
        .lines()
        .find_map(|line| line.strip_prefix("0::"))
        .unwrap_or_default();
    Ok(PathBuf::from(format!("/sys/fs/cgroup{path}")))
}

/// A file of it, or of the nearest cgroup above that has the limits: a
/// runtime may put the processes one below.
fn file(container: &Container, name: &str) -> Try<String> {
    let path = cgroup(container)?.join(name);
    let text = fs::read_to_string(&path)
        .map_err(|error| Problem::Failed(format!("{}: {error}", path.display())))?;
    Ok(text.trim().to_owned())
}

pub(super) fn sleeping<'bench>(bench: &'bench Bench, resources: Value) -> Try<Container<'bench>> {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/resources", resources);
    bundle.steps(&[Step::Sleep(60_000)]);
    bench.start(&bundle)
}

fn has(bench: &Bench, resources: Value, name: &str, wanted: &str) -> Check {
    let container = sleeping(bench, resources)?;
    let found = file(&container, name)?;
    demand!(found == wanted, "{name} is {found}, not {wanted}");
    Ok(())
}

pub(super) fn refused(bench: &Bench, resources: Value) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/resources", resources.clone());
    let taken = bench.try_create(&bundle)?.is_ok();
    demand!(!taken, "{resources} is taken");
    Ok(())
}

fn absolute_path(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let path = format!("/{}/below", bench.id());
    bundle.set("/linux/cgroupsPath", json!(path));
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    let (found, wanted) = (
        cgroup(&container)?,
        PathBuf::from(format!("/sys/fs/cgroup{path}")),
    );
    demand!(found.starts_with(&wanted), "it is {}", found.display());
    bench.must(&["delete", "--force", &container.id])?;
    demand!(!wanted.exists(), "it is left after delete");
    Ok(())
}

fn relative_path(bench: &Bench) -> Check {
    let path = format!("{}/below", bench.id());
    let mut places = Vec::new();
    for _ in 0..2 {
        let mut bundle = bench.bundle()?;
        bundle.set("/linux/cgroupsPath", json!(path));
        bundle.steps(&[Step::Sleep(60_000)]);
        let container = bench.start(&bundle)?;
        places.push(cgroup(&container)?);
        bench.must(&["delete", "--force", &container.id])?;
    }
    demand!(
        places[0] == places[1] && places[0].to_string_lossy().contains(&path),
        "they are {places:?}"
    );
    Ok(())
}

fn own_cgroup(bench: &Bench) -> Check {
    let first = sleeping(bench, json!({}))?;
    let second = sleeping(bench, json!({}))?;
    let (first, second) = (cgroup(&first)?, cgroup(&second)?);
    demand!(first != second, "both are in {}", first.display());
    demand!(
        first.file_name().is_some_and(|name| name != "cgroup"),
        "it is the root"
    );
    Ok(())
}

fn path_upwards(bench: &Bench) -> Check {
    let outside = bench.directory("outside")?;
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/linux/cgroupsPath",
        json!(format!("/../../../../../..{}/made", outside.display())),
    );
    let created = bench.try_create(&bundle)?;
    demand!(
        fs::read_dir(&outside)?.next().is_none(),
        "it made a directory there"
    );
    if let Ok(container) = created {
        bench.must(&["delete", "--force", &container.id])?;
    }
    Ok(())
}

fn memory_limit(bench: &Bench) -> Check {
    let limit: u64 = 48 << 20;
    has(
        bench,
        json!({ "memory": { "limit": limit } }),
        "memory.max",
        &limit.to_string(),
    )?;
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/linux/resources",
        json!({ "memory": { "limit": limit, "swap": limit } }),
    );
    let ran = bench.run(
        &mut bundle,
        &[
            Step::Occupy(8 << 20),
            Step::Child(vec![Step::Occupy(96 << 20)]),
        ],
    )?;
    demand!(ran.result(0)?.worked(), "what is below: {}", ran.result(0)?);
    let killed = match ran.results.get(1) {
        Some(result) => result.value()["end"]["signal"] == libc::SIGKILL,
        None => ran.end == End::Signal(libc::SIGKILL),
    };
    demand!(
        killed,
        "who took more was not killed: {:?}",
        ran.results.get(1)
    );
    Ok(())
}

fn memory_unlimited(bench: &Bench) -> Check {
    has(
        bench,
        json!({ "memory": { "limit": -1 } }),
        "memory.max",
        "max",
    )
}

fn memory_reservation(bench: &Bench) -> Check {
    let value: u64 = 16 << 20;
    has(
        bench,
        json!({ "memory": { "reservation": value } }),
        "memory.low",
        &value.to_string(),
    )
}

fn memory_swap(bench: &Bench) -> Check {
    let container = sleeping(
        bench,
        json!({ "memory": { "limit": 32 << 20, "swap": 80 << 20 } }),
    )?;
    if !cgroup(&container)?.join("memory.swap.max").exists() {
        return Err(Problem::Untried(
            "the kernel has no swap accounting".to_owned(),
        ));
    }
    let found = file(&container, "memory.swap.max")?;
    demand!(
        found == (48 << 20).to_string(),
        "memory.swap.max is {found}"
    );
    has(
        bench,
        json!({ "memory": { "limit": 32 << 20, "swap": -1 } }),
        "memory.swap.max",
        "max",
    )
}

fn swap_below_limit(bench: &Bench) -> Check {
    refused(
        bench,
        json!({ "memory": { "limit": 32 << 20, "swap": 16 << 20 } }),
    )
}

fn check_before_update(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/linux/resources",
        json!({ "memory": { "limit": 96 << 20, "checkBeforeUpdate": true } }),
    );
    bundle.steps(&[
        Step::Occupy(32 << 20),
        Step::Create("/ready".to_owned()),
        Step::Sleep(60_000),
    ]);
    let container = bench.start(&bundle)?;
    crate::bench::until("the memory is in use", || {
        Ok(bundle.root().join("ready").exists())
    })?;
    let path = bench.path("resources");
    let resources = json!({ "memory": { "limit": 8 << 20, "checkBeforeUpdate": true } });
    fs::write(&path, resources.to_string())?;
    bench.refused(&[
        "update",
        "--resources",
        &path.to_string_lossy(),
        &container.id,
    ])?;
    demand!(container.is_alive(), "its process was killed");
    let found = file(&container, "memory.max")?;
    demand!(found == (96 << 20).to_string(), "memory.max is {found}");
    Ok(())
}

fn cpu_shares(bench: &Bench) -> Check {
    let mut before = 0;
    for shares in [2, 512, 1024, 4096, 262_144] {
        let container = sleeping(bench, json!({ "cpu": { "shares": shares } }))?;
        let weight: u64 = file(&container, "cpu.weight")?.parse().unwrap_or(0);
        demand!(
            weight > before && weight <= 10_000,
            "{shares} shares became {weight}, less before became {before}"
        );
        before = weight;
    }
    Ok(())
}

fn cpu_quota(bench: &Bench) -> Check {
    let resources = json!({ "cpu": { "quota": 20_000, "period": 100_000 } });
    has(bench, resources.clone(), "cpu.max", "20000 100000")?;
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/resources", resources);
    let ran = bench.run(&mut bundle, &[Step::Spin(2000)])?;
    let used = ran.result(0)?.value().as_u64().unwrap_or(u64::MAX);
    demand!(used < 1000, "of 2000 ms it got {used} ms");
    Ok(())
}

fn cpu_unlimited(bench: &Bench) -> Check {
    let container = sleeping(bench, json!({ "cpu": { "quota": -1, "period": 100_000 } }))?;
    let found = file(&container, "cpu.max")?;
    demand!(found.starts_with("max "), "cpu.max is {found}");
    Ok(())
}

fn cpu_burst(bench: &Bench) -> Check {
    has(
        bench,
        json!({ "cpu": { "quota": 50_000, "period": 100_000, "burst": 10_000 } }),
        "cpu.max.burst",
        "10000",
    )
}

fn cpu_idle(bench: &Bench) -> Check {
    has(bench, json!({ "cpu": { "idle": 1 } }), "cpu.idle", "1")
}

fn cpuset(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(
        "/linux/resources",
        json!({ "cpu": { "cpus": "0", "mems": "0" } }),
    );
    let ran = bench.run(
        &mut bundle,
        &[Step::World, Step::Read("/proc/self/status".to_owned())],
    )?;
    let affinity = ran.world(0)?.affinity;
    demand!(affinity == [0], "it runs on {affinity:?}");
    demand!(
        ran.result(1)?.text().contains("Mems_allowed_list:\t0\n"),
        "its memory is elsewhere"
    );
    has(
        bench,
        json!({ "cpu": { "cpus": "0", "mems": "0" } }),
        "cpuset.cpus",
        "0",
    )
}

fn no_such_processor(bench: &Bench) -> Check {
    refused(bench, json!({ "cpu": { "cpus": "4000" } }))
}

fn pids_limit(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set("/linux/resources", json!({ "pids": { "limit": 5 } }));
    let ran = bench.run(&mut bundle, &[Step::Children(20)])?;
    demand!(
        *ran.result(0)?.value() == 4,
        "beside itself it could make {}",
        ran.result(0)?
    );
    Ok(())
}

fn pids_unlimited(bench: &Bench) -> Check {
    has(bench, json!({ "pids": { "limit": -1 } }), "pids.max", "max")
}

fn io_weight(bench: &Bench) -> Check {
    let container = sleeping(bench, json!({ "blockIO": { "weight": 500 } }))?;
    let folder = cgroup(&container)?;
    let weights: Vec<String> = ["io.weight", "io.bfq.weight"]
        .iter()
        .filter_map(|name| fs::read_to_string(folder.join(name)).ok())
        .map(|text| text.trim().trim_start_matches("default ").to_owned())
        .collect();
    demand!(
        weights.iter().any(|weight| weight != "100"),
        "the weights are {weights:?}"
    );
    Ok(())
}

fn io_throttle(bench: &Bench) -> Check {
    let Some((major, minor)) = needs::disk() else {
        return Err(Problem::Untried("no disk".to_owned()));
    };
    let rate = |rate: u64| json!([{ "major": major, "minor": minor, "rate": rate }]);
    let container = sleeping(
        bench,
        json!({ "blockIO": {
            "throttleReadBpsDevice": rate(1 << 20),
            "throttleWriteBpsDevice": rate(2 << 20),
            "throttleReadIOPSDevice": rate(100),
            "throttleWriteIOPSDevice": rate(200),
        } }),
    )?;
    let found = file(&container, "io.max")?;
    let wanted = format!("{major}:{minor} rbps=1048576 wbps=2097152 riops=100 wiops=200");
    demand!(found == wanted, "io.max is {found}");
    Ok(())
}

fn huge_pages(bench: &Bench) -> Check {
    let limit: u64 = 4 << 20;
    let container = sleeping(
        bench,
        json!({ "hugepageLimits": [{ "pageSize": "2MB", "limit": limit }] }),
    )?;
    let found = file(&container, "hugetlb.2MB.rsvd.max")
        .or_else(|_| file(&container, "hugetlb.2MB.max"))?;
    let usage = file(&container, "hugetlb.2MB.max")?;
    demand!(
        found == limit.to_string() || usage == limit.to_string(),
        "reservation is {found}, usage {usage}"
    );
    Ok(())
}

fn huge_pages_of_no_size(bench: &Bench) -> Check {
    refused(
        bench,
        json!({ "hugepageLimits": [{ "pageSize": "3MB", "limit": 0 }] }),
    )
}

fn rdma(bench: &Bench) -> Check {
    let name = fs::read_dir("/sys/class/infiniband")?
        .flatten()
        .next()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .ok_or_else(|| Problem::Untried("no device".to_owned()))?;
    let container = sleeping(
        bench,
        json!({ "rdma": { &name: { "hcaHandles": 3, "hcaObjects": 1000 } } }),
    )?;
    let found = file(&container, "rdma.max")?;
    let wanted = format!("{name} hca_handle=3 hca_object=1000");
    demand!(found.contains(&wanted), "rdma.max is {found}");
    Ok(())
}

fn unified(bench: &Bench) -> Check {
    let container = sleeping(
        bench,
        json!({ "unified": {
            "memory.high": "50331648",
            "memory.low": "1048576",
            "pids.max": "77",
        } }),
    )?;
    for (name, wanted) in [
        ("memory.high", "50331648"),
        ("memory.low", "1048576"),
        ("pids.max", "77"),
    ] {
        let found = file(&container, name)?;
        demand!(found == wanted, "{name} is {found}");
    }
    Ok(())
}

fn unified_core(bench: &Bench) -> Check {
    has(
        bench,
        json!({ "unified": { "cgroup.max.descendants": "7" } }),
        "cgroup.max.descendants",
        "7",
    )
}

fn unified_errors(bench: &Bench) -> Check {
    refused(bench, json!({ "unified": { "nosuch.max": "1" } }))?;
    refused(
        bench,
        json!({ "unified": { "../cgroup.max.descendants": "7" } }),
    )?;
    refused(bench, json!({ "unified": { "cgroup.no.such.file": "1" } }))
}

fn owned(bench: &Bench, options: &[&str]) -> Try<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let mut bundle: Bundle = bench.bundle()?;
    bundle.user_namespace(300_000)?;
    bundle.mount("/sys/fs/cgroup", "cgroup", "cgroup", options);
    bundle.steps(&[Step::Sleep(60_000)]);
    let container = bench.start(&bundle)?;
    let folder = cgroup(&container)?;
    Ok((
        fs::metadata(&folder)?.uid(),
        fs::metadata(folder.join("cgroup.procs"))?.uid(),
    ))
}

fn ownership(bench: &Bench) -> Check {
    let found = owned(bench, &["nosuid", "noexec", "nodev"])?;
    demand!(
        found == (300_000, 300_000),
        "directory and cgroup.procs belong to {found:?}"
    );
    Ok(())
}

fn no_ownership(bench: &Bench) -> Check {
    let found = owned(bench, &["nosuid", "noexec", "nodev", "ro"])?;
    demand!(
        found == (0, 0),
        "directory and cgroup.procs belong to {found:?}"
    );
    Ok(())
}
