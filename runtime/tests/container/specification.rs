//! What is refused before anything happens. Needs no root.

use serde_json::{Value, json};

use crate::harness::Container;

fn refusal(pointer: &str, value: Value) -> String {
    let container = Container::new("true").set(pointer, value.clone());
    match runtime::prepare(&container.spec()) {
        Ok(_) => panic!("{pointer} = {value} was accepted"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn a_field_that_is_not_enforced_is_refused_by_name() {
    for (pointer, value, field) in [
        (
            "/mounts/0/uidMappings",
            json!([{ "containerID": 0, "hostID": 0, "size": 1 }]),
            "mounts[0].gidMappings: is empty",
        ),
        ("/linux/cgroupsPath", json!("/x"), "linux.cgroupsPath"),
        (
            "/linux/intelRdt",
            json!({ "closID": "x" }),
            "linux.intelRdt.closID",
        ),
        (
            "/linux/netDevices",
            json!({ "eth0": { "name": "x" } }),
            "linux.netDevices.eth0",
        ),
        (
            "/linux/memoryPolicy",
            json!({ "mode": "MPOL_BIND" }),
            "linux.memoryPolicy.mode",
        ),
        (
            "/linux/resources/memory/swappiness",
            json!(0),
            "linux.resources.memory.swappiness",
        ),
        (
            "/linux/resources/memory/kernel",
            json!(1),
            "linux.resources.memory.kernel",
        ),
        (
            "/linux/resources/cpu/realtimePeriod",
            json!(1),
            "linux.resources.cpu.realtimePeriod",
        ),
        (
            "/linux/resources/network/classID",
            json!(1),
            "linux.resources.network.classID",
        ),
        (
            "/linux/resources/rdma",
            json!({ "a b": { "hcaHandles": 1 } }),
            "linux.resources.rdma[a b]",
        ),
        (
            "/linux/seccomp",
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            "linux.seccomp.defaultAction",
        ),
        (
            "/windows",
            json!({ "layerFolders": ["x"] }),
            "windows.layerFolders",
        ),
    ] {
        let text = refusal(pointer, value);
        assert!(text.starts_with(field), "{pointer}: {text}");
    }
}

#[test]
fn a_value_that_cannot_be_enforced_is_refused_by_the_name_of_its_field() {
    for (pointer, value, field) in [
        ("/ociVersion", json!("2.0.0"), "ociVersion"),
        ("/ociVersion", json!("1.2"), "ociVersion"),
        ("/ociVersion", json!("1.2.0.1"), "ociVersion"),
        ("/ociVersion", json!("1.02.0"), "ociVersion"),
        ("/annotations", json!({ "": "x" }), "annotations"),
        (
            "/hooks",
            json!({ "prestart": [{ "path": "x" }] }),
            "hooks.prestart[0].path",
        ),
        (
            "/hooks",
            json!({ "poststop": [{ "path": "/x", "timeout": 0 }] }),
            "hooks.poststop[0].timeout",
        ),
        (
            "/linux/uidMappings",
            json!([{ "containerID": 0, "hostID": 0, "size": 1 }]),
            "linux.uidMappings: maps nothing",
        ),
        (
            "/linux/namespaces/1/type",
            json!("user"),
            "linux.uidMappings: is empty",
        ),
        (
            "/linux/timeOffsets",
            json!({ "monotonic": { "secs": 1 } }),
            "linux.timeOffsets.monotonic",
        ),
        ("/root/path", json!("rootfs"), "root.path"),
        ("/process/args", json!([]), "process.args"),
        ("/process/args", json!(["a\0b"]), "process.args"),
        ("/process/env", json!(["NOTHING"]), "process.env"),
        ("/process/cwd", json!("tmp"), "process.cwd"),
        ("/process/user/umask", json!(0o1777), "process.user.umask"),
        ("/process/oomScoreAdj", json!(2000), "process.oomScoreAdj"),
        (
            "/process/rlimits",
            json!([{ "type": "RLIMIT_CORE", "soft": 2, "hard": 1 }]),
            "process.rlimits[0]",
        ),
        (
            "/process/rlimits",
            json!([
                { "type": "RLIMIT_CPU", "soft": 1, "hard": 1 },
                { "type": "RLIMIT_CPU", "soft": 1, "hard": 1 },
            ]),
            "process.rlimits[1].type",
        ),
        (
            "/process/scheduler",
            json!({ "policy": "SCHED_OTHER", "deadline": 1 }),
            "process.scheduler.deadline",
        ),
        (
            "/linux/personality",
            json!({ "domain": "LINUX", "flags": ["X"] }),
            "linux.personality.flags: \"X\"",
        ),
        (
            "/annotations",
            json!({ "wherry.landlock": "{ \"abi\": 1, \"colour\": 2 }" }),
            "annotations.wherry.landlock",
        ),
        ("/hostname", json!("x".repeat(65)), "hostname"),
        (
            "/linux/namespaces",
            json!([{ "type": "mount" }]),
            "hostname",
        ),
        (
            "/linux/namespaces",
            json!([{ "type": "uts" }]),
            "root.readonly: would change the caller's own mounts",
        ),
        // To the kernel these mean "unchanged": the program would stay root.
        (
            "/process/user/uid",
            json!(4_294_967_295_u32),
            "process.user.uid",
        ),
        (
            "/process/user/gid",
            json!(4_294_967_295_u32),
            "process.user.gid",
        ),
        (
            "/process/user/additionalGids",
            json!([5, 4_294_967_295_u32]),
            "process.user.additionalGids[1]",
        ),
        (
            "/linux/namespaces/0/path",
            json!("/proc/1/ns/mnt"),
            "root.readonly",
        ),
        (
            "/linux/namespaces/1/type",
            json!("mount"),
            "linux.namespaces[1]",
        ),
        (
            "/linux/rootfsPropagation",
            json!("sideways"),
            "linux.rootfsPropagation",
        ),
        ("/linux/maskedPaths", json!(["proc"]), "linux.maskedPaths"),
        (
            "/linux/sysctl",
            json!({ "vm.swappiness": "1" }),
            "linux.sysctl[vm.swappiness]",
        ),
        (
            "/linux/resources/memory",
            json!({ "swap": 1 }),
            "linux.resources.memory.swap",
        ),
        (
            "/linux/resources/devices",
            json!([{ "allow": true, "access": "x" }]),
            "linux.resources.devices[0].access",
        ),
    ] {
        let text = refusal(pointer, value);
        assert!(text.starts_with(field), "{pointer}: {text}");
    }
}

#[test]
fn what_asks_for_nothing_is_accepted() {
    for (pointer, value) in [
        ("/process/terminal", json!(false)),
        ("/hooks", json!({ "prestart": [] })),
        ("/annotations", json!({ "any.thing": "x" })),
        ("/linux/resources/memory/disableOOMKiller", json!(false)),
        ("/linux/resources/network", json!({})),
        ("/linux/resources/memory/kernel", json!(0)),
        ("/linux/resources/memory/kernelTCP", json!(0)),
        ("/linux/resources/memory/limit", json!(0)),
        ("/linux/resources/memory/useHierarchy", json!(true)),
        ("/linux/resources/cpu/realtimeRuntime", json!(0)),
        ("/linux/resources/cpu/realtimePeriod", json!(0)),
        ("/linux/resources/cpu/shares", json!(0)),
        ("/linux/resources/pids/limit", json!(0)),
        ("/linux/resources/blockIO/weight", json!(0)),
        ("/linux/resources/blockIO/leafWeight", json!(0)),
        ("/linux/resources/network/classID", json!(0)),
        ("/linux/resources/devices", json!([])),
    ] {
        let container = Container::new("true").set(pointer, value);
        runtime::prepare(&container.spec()).unwrap();
    }
}

#[test]
fn every_enforced_field_exists_and_is_in_the_manual() {
    let manual = include_str!("../../../docs/runtime.md");
    for field in runtime::ENFORCED {
        assert!(
            manual.contains(&format!("`{field}`")),
            "docs/runtime.md says nothing of {field}"
        );
    }
    let table = manual
        .split("## What is enforced")
        .nth(1)
        .and_then(|rest| rest.split("\n## ").next())
        .unwrap();
    let mut named = 0;
    for line in table.lines().filter(|line| line.starts_with("| `")) {
        for field in line.split('|').nth(1).unwrap().split(',') {
            let field = field.trim().trim_matches('`');
            named += 1;
            assert!(
                runtime::ENFORCED.contains(&field),
                "docs/runtime.md names {field}, which is not enforced"
            );
        }
    }
    assert!(named >= runtime::ENFORCED.len(), "{named} in the table");
}

#[test]
fn the_defaults_of_the_specification_crate_are_accepted_but_for_what_is_named() {
    let mut spec = oci_spec::runtime::Spec::default();
    let mut root = spec.root().clone().unwrap();
    root.set_path("/somewhere".into());
    spec.set_root(Some(root));
    let result = runtime::prepare(&spec);
    assert!(result.is_ok(), "{result:?}");
}
