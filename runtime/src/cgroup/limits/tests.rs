//! Which field is written to which file.

use std::collections::HashMap;

use serde_json::{Value, json};

use super::*;

fn resources(value: Value) -> LinuxResources {
    serde_json::from_value(value).unwrap()
}

fn written_over(value: Value, current: &Current) -> Vec<(String, String)> {
    plan(&resources(value), current)
        .unwrap()
        .into_iter()
        .map(|setting| (setting.file, setting.value))
        .collect()
}

fn written(value: Value) -> Vec<(String, String)> {
    written_over(value, &Current::default())
}

fn pairs(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(file, value)| (file.to_string(), value.to_string()))
        .collect()
}

fn refusal(value: Value) -> String {
    plan(&resources(value), &Current::default())
        .unwrap_err()
        .to_string()
}

#[test]
fn swap_is_counted_without_memory_and_written_first() {
    assert_eq!(
        written(json!({ "memory": { "limit": 32, "swap": 48, "reservation": -1 } })),
        pairs(&[
            ("memory.swap.max", "16"),
            ("memory.max", "32"),
            ("memory.low", "max")
        ])
    );
}

#[test]
fn memory_and_swap_are_converted_as_the_specification_counts_them() {
    for (memory, expected) in [
        (
            json!({ "limit": 8, "swap": 8 }),
            vec![("memory.swap.max", "0"), ("memory.max", "8")],
        ),
        (
            json!({ "limit": 8, "swap": -1 }),
            vec![("memory.swap.max", "max"), ("memory.max", "8")],
        ),
        (json!({ "limit": 8 }), vec![("memory.max", "8")]),
        (json!({ "limit": 8, "swap": 0 }), vec![("memory.max", "8")]),
        (
            json!({ "limit": -1 }),
            vec![("memory.swap.max", "max"), ("memory.max", "max")],
        ),
        (json!({ "swap": -1 }), vec![("memory.swap.max", "max")]),
        (json!({ "limit": 0, "swap": 0, "reservation": 0 }), vec![]),
    ] {
        assert_eq!(
            written(json!({ "memory": memory })),
            pairs(&expected),
            "{memory}"
        );
    }
}

#[test]
fn an_update_of_swap_alone_counts_on_the_limit_that_is_in_force() {
    let update = json!({ "memory": { "swap": 48 } });
    assert_eq!(depends_on(&resources(update.clone())), (true, false));
    let current = Current {
        memory_max: Some(32),
        cpu_max: None,
    };
    assert_eq!(
        written_over(update.clone(), &current),
        pairs(&[("memory.swap.max", "16")])
    );
    assert!(refusal(update).starts_with("linux.resources.memory.swap"));
}

#[test]
fn an_update_of_the_period_or_the_quota_alone_keeps_the_other() {
    let current = Current {
        memory_max: None,
        cpu_max: Some(("5000".into(), "40000".into())),
    };
    let period = json!({ "cpu": { "period": 20_000 } });
    assert_eq!(depends_on(&resources(period.clone())), (false, true));
    assert_eq!(
        written_over(period, &current),
        pairs(&[("cpu.max", "5000 20000")])
    );
    let quota = json!({ "cpu": { "quota": 7000 } });
    assert_eq!(depends_on(&resources(quota.clone())), (false, true));
    assert_eq!(
        written_over(quota.clone(), &current),
        pairs(&[("cpu.max", "7000 40000")])
    );
    // In a new cgroup the kernel has a period.
    assert_eq!(written(quota), pairs(&[("cpu.max", "7000")]));
}

#[test]
fn no_limit_is_written_as_max_and_holds_without_the_controller() {
    let value = json!({ "cpu": { "quota": -1, "period": 1000 }, "pids": { "limit": -1 } });
    assert_eq!(
        written(value.clone()),
        pairs(&[("cpu.max", "max 1000"), ("pids.max", "max")])
    );
    let settings = plan(&resources(value), &Current::default()).unwrap();
    assert!(settings.iter().all(|setting| setting.needless_without_file));
    let limit = resources(json!({ "pids": { "limit": 5 } }));
    assert!(!plan(&limit, &Current::default()).unwrap()[0].needless_without_file);
}

/// Docker, containerd and podman write these for limits that their user did not
/// set.
#[test]
fn zero_asks_for_nothing() {
    assert_eq!(
        written(json!({
            "memory": { "limit": 0, "swap": 0, "reservation": 0, "kernel": 0, "kernelTCP": 0,
                        "disableOOMKiller": false },
            "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "", "mems": "",
                     "realtimeRuntime": 0, "realtimePeriod": 0 },
            "pids": { "limit": 0 },
            "blockIO": { "weight": 0, "leafWeight": 0, "weightDevice": [],
                         "throttleReadBpsDevice": null },
            "hugepageLimits": [],
            "network": { "classID": 0 },
            "rdma": {},
            "unified": {},
        })),
        []
    );
}

#[test]
fn shares_become_the_weight_that_the_other_runtimes_make_of_them() {
    for (shares, expected) in [
        (1, 1),
        (2, 1),
        (512, 59),
        (1024, 100),
        (2048, 174),
        (262_144, 10_000),
        (u64::MAX, 10_000),
    ] {
        assert_eq!(weight(shares), expected, "{shares}");
    }
}

#[test]
fn a_cgroup_becomes_idle_after_it_has_its_weight_and_stops_being_so_before() {
    for (idle, expected) in [
        (1, [("cpu.weight", "100"), ("cpu.idle", "1")]),
        (0, [("cpu.idle", "0"), ("cpu.weight", "100")]),
    ] {
        assert_eq!(
            written(json!({ "cpu": { "shares": 1024, "idle": idle } })),
            pairs(&expected)
        );
    }
}

#[test]
fn the_weight_of_io_is_for_either_scheduler() {
    let io = json!({ "blockIO": { "weight": 10, "weightDevice": [
        { "major": 8, "minor": 0, "weight": 1000, "leafWeight": 0 },
        { "major": 8, "minor": 16, "weight": 0 },
    ] } });
    let settings = plan(&resources(io), &Current::default()).unwrap();
    let all: Vec<_> = settings
        .into_iter()
        .map(|setting| (setting.file, setting.value, setting.otherwise.unwrap().1))
        .collect();
    let line = |value: &str, otherwise: &str| {
        (
            "io.bfq.weight".to_string(),
            value.to_string(),
            otherwise.to_string(),
        )
    };
    assert_eq!(
        all,
        [
            line("default 10", "default 1"),
            line("8:0 1000", "8:0 10000")
        ]
    );
    assert!(refusal(json!({ "blockIO": { "weight": 5 } })).contains("blockIO.weight"));
}

#[test]
fn throttles_huge_pages_and_rdma_have_a_line_each() {
    assert_eq!(
        written(json!({
            "blockIO": {
                "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 1000 }],
                "throttleWriteIOPSDevice": [{ "major": 8, "minor": 0, "rate": 0 }],
            },
            "hugepageLimits": [{ "pageSize": "2MB", "limit": 4096 }],
            "rdma": {
                "mlx5_1": { "hcaHandles": 3, "hcaObjects": 0 },
                "mlx5_0": { "hcaObjects": 10 },
                "mlx5_2": {},
            },
        })),
        pairs(&[
            ("io.max", "8:0 rbps=1000"),
            ("io.max", "8:0 wiops=max"),
            ("hugetlb.2MB.max", "4096"),
            ("hugetlb.2MB.rsvd.max", "4096"),
            ("rdma.max", "mlx5_0 hca_object=10"),
            ("rdma.max", "mlx5_1 hca_handle=3 hca_object=0"),
        ])
    );
}

#[test]
fn what_is_no_limit_is_refused_by_name() {
    for key in ["cgroup.procs", "../memory.max", "memory"] {
        let unified = HashMap::from([(key, "1")]);
        let text = refusal(json!({ "unified": unified }));
        assert!(text.contains(key), "{text}");
    }
    for memory in [
        json!({ "limit": -2 }),
        json!({ "swap": 5 }),
        json!({ "limit": 5, "swap": 4 }),
        json!({ "limit": -1, "swap": 4 }),
        json!({ "reservation": -5 }),
    ] {
        let text = refusal(json!({ "memory": memory }));
        assert!(text.starts_with("linux.resources.memory."), "{text}");
    }
    let rdma = refusal(json!({ "rdma": { "a b": { "hcaHandles": 1 } } }));
    assert!(rdma.starts_with("linux.resources.rdma[a b]"), "{rdma}");
    let page = refusal(json!({ "hugepageLimits": [{ "pageSize": "../x", "limit": 1 }] }));
    assert!(page.starts_with("linux.resources.hugepageLimits"), "{page}");
}
