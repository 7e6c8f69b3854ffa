//! config.md, Valid values: what the kernel or the runtime cannot do is an
//! error and never dropped.

use serde_json::{Value, json};

use crate::bench::Bench;
use crate::clause::{Check, Clause, demand, must};
use crate::needs::Need;

const SECTION: &str = "config.md#valid-values";

pub const CLAUSES: &[Clause] = &[
    must(
        SECTION,
        "an AppArmor profile on a machine without AppArmor is an error",
        &[Need::NoPath("/sys/kernel/security/apparmor")],
        |bench| refused(bench, "/process/apparmorProfile", json!("some-profile")),
    ),
    must(
        SECTION,
        "an SELinux label of the process on a machine without SELinux is an error",
        &[Need::NoPath("/sys/fs/selinux")],
        |bench| {
            let label = json!("system_u:system_r:container_t:s0");
            refused(bench, "/process/selinuxLabel", label)
        },
    ),
    must(
        SECTION,
        "an SELinux label of mounts on a machine without SELinux is an error",
        &[Need::NoPath("/sys/fs/selinux")],
        |bench| {
            let label = json!("system_u:object_r:container_file_t:s0");
            refused(bench, "/linux/mountLabel", label)
        },
    ),
    must(
        "config-linux.md#intelrdt",
        "without a resctrl file system: an error",
        &[Need::NoPath("/sys/fs/resctrl/schemata")],
        |bench| {
            let rdt = json!({ "closID": "conformance", "l3CacheSchema": "L3:0=f" });
            refused(bench, "/linux/intelRdt", rdt)
        },
    ),
    must(
        SECTION,
        "a memory limit without a memory controller is an error",
        &[Need::UnifiedTree, Need::NoController("memory")],
        |bench| resources(bench, json!({ "memory": { "limit": 64 << 20 } })),
    ),
    must(
        SECTION,
        "a limit of tasks without a pids controller is an error",
        &[Need::UnifiedTree, Need::NoController("pids")],
        |bench| resources(bench, json!({ "pids": { "limit": 10 } })),
    ),
    must(
        SECTION,
        "processor time without a cpu controller is an error",
        &[Need::UnifiedTree, Need::NoController("cpu")],
        |bench| {
            resources(
                bench,
                json!({ "cpu": { "quota": 10_000, "period": 100_000 } }),
            )
        },
    ),
    must(
        SECTION,
        "processors without a cpuset controller are an error",
        &[Need::UnifiedTree, Need::NoController("cpuset")],
        |bench| resources(bench, json!({ "cpu": { "cpus": "0" } })),
    ),
    must(
        SECTION,
        "rates of a device without an io controller are an error",
        &[Need::UnifiedTree, Need::NoController("io")],
        |bench| {
            let rate = json!([{ "major": 8, "minor": 0, "rate": 1000 }]);
            resources(
                bench,
                json!({ "blockIO": { "throttleReadBpsDevice": rate } }),
            )
        },
    ),
    must(
        "config-linux.md#rdma",
        "a device that does not exist is an error",
        &[Need::UnifiedTree],
        |bench| resources(bench, json!({ "rdma": { "nosuch0": { "hcaHandles": 3 } } })),
    ),
    must(
        "config-linux.md#unified",
        "a limit that cgroup v2 does not have is an error: network class and priority",
        &[Need::UnifiedTree],
        |bench| {
            resources(bench, json!({ "network": { "classID": 1_048_577 } }))?;
            let priorities = json!([{ "name": "eth0", "priority": 500 }]);
            resources(bench, json!({ "network": { "priorities": priorities } }))
        },
    ),
    must(
        "config-linux.md#unified",
        "a limit that cgroup v2 does not have is an error: realtime processor time",
        &[Need::UnifiedTree],
        |bench| {
            resources(
                bench,
                json!({ "cpu": { "realtimeRuntime": 10_000, "realtimePeriod": 1_000_000 } }),
            )
        },
    ),
    must(
        "config-linux.md#unified",
        "a limit that cgroup v2 does not have is an error: swappiness, no OOM killer",
        &[Need::UnifiedTree],
        |bench| {
            resources(bench, json!({ "memory": { "swappiness": 10 } }))?;
            resources(bench, json!({ "memory": { "disableOOMKiller": true } }))
        },
    ),
    must(
        "config-linux.md#unified",
        "a limit that cgroup v2 does not have is an error: kernel and TCP memory, leaf weight",
        &[Need::UnifiedTree],
        |bench| {
            resources(bench, json!({ "memory": { "kernelTCP": 10 << 20 } }))?;
            resources(bench, json!({ "blockIO": { "leafWeight": 10 } }))
        },
    ),
    must(
        SECTION,
        "a hostname without a UTS namespace of its own is an error",
        &[],
        shared_hostname,
    ),
    must(
        SECTION,
        "a domainname without a UTS namespace of its own is an error",
        &[],
        shared_domainname,
    ),
    must(
        SECTION,
        "oomScoreAdj beyond 1000 is an error",
        &[],
        |bench| refused(bench, "/process/oomScoreAdj", json!(1001)),
    ),
    must(
        SECTION,
        "a user or group that the user namespace does not map is an error",
        &[Need::UserNamespace],
        unmapped_user,
    ),
    must(
        SECTION,
        "a field with a type other than the schema's is an error",
        &[],
        wrong_types,
    ),
    must(SECTION, "a negative id is an error", &[], |bench| {
        refused(bench, "/process/user", json!({ "uid": -1, "gid": 0 }))
    }),
    must(
        SECTION,
        "the mount option idmap on a file system that does not support it is an error",
        &[Need::Kernel(5, 12)],
        idmap_on_proc,
    ),
    must(
        "config-linux.md#scheduler",
        "a deadline whose runtime exceeds its period is an error",
        &[],
        |bench| {
            let scheduler = json!({
                "policy": "SCHED_DEADLINE", "runtime": 20_000_000,
                "deadline": 10_000_000, "period": 10_000_000,
            });
            refused(bench, "/process/scheduler", scheduler)
        },
    ),
];

fn refused(bench: &Bench, pointer: &str, value: Value) -> Check {
    let mut bundle = bench.bundle()?;
    bundle.set(pointer, value.clone());
    match bench.refuses_to_run(&mut bundle) {
        Ok(_) => Ok(()),
        Err(problem) => {
            demand!(
                !matches!(problem, crate::clause::Problem::Failed(_)),
                "{pointer} {value} was silently accepted"
            );
            Err(problem)
        }
    }
}

fn resources(bench: &Bench, value: Value) -> Check {
    refused(bench, "/linux/resources", value)
}

fn shared_hostname(bench: &Bench) -> Check {
    let before = nix::unistd::gethostname()?;
    let mut bundle = bench.bundle()?;
    bundle.without_namespace("uts");
    bundle.set("/hostname", json!(before.to_string_lossy()));
    bench.refuses(&bundle)?;
    Ok(())
}

fn shared_domainname(bench: &Bench) -> Check {
    let before = crate::sys::domain_name()?;
    let mut bundle = bench.bundle()?;
    bundle.without_namespace("uts");
    bundle.remove("/hostname");
    bundle.set("/domainname", json!(before));
    bench.refuses(&bundle)?;
    Ok(())
}

fn unmapped_user(bench: &Bench) -> Check {
    for user in [
        json!({ "uid": 70_000, "gid": 0 }),
        json!({ "uid": 0, "gid": 70_000 }),
        json!({ "uid": 0, "gid": 0, "additionalGids": [70_000] }),
    ] {
        let mut bundle = bench.bundle()?;
        bundle.user_namespace(300_000)?;
        bundle.set("/process/user", user);
        bench.refuses_to_run(&mut bundle)?;
    }
    Ok(())
}

fn wrong_types(bench: &Bench) -> Check {
    for (pointer, value) in [
        ("/process/args", json!("/probe")),
        ("/process/noNewPrivileges", json!("yes")),
        ("/root/readonly", json!(1)),
        ("/linux/namespaces", json!({ "type": "pid" })),
        ("/mounts", json!("none")),
    ] {
        let mut bundle = bench.bundle()?;
        bundle.set(pointer, value.clone());
        let taken = bench.try_create(&bundle)?.is_ok();
        demand!(!taken, "{pointer} {value} is taken");
    }
    Ok(())
}

fn idmap_on_proc(bench: &Bench) -> Check {
    let mut bundle = bench.bundle()?;
    let mapping = json!([{ "containerID": 0, "hostID": 5000, "size": 10 }]);
    bundle.push(
        "/mounts",
        json!({
            "destination": "/data",
            "source": "/proc/sys",
            "options": ["bind", "idmap"],
            "uidMappings": mapping,
            "gidMappings": mapping,
        }),
    );
    bench.refuses(&bundle)?;
    Ok(())
}
