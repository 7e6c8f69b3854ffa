//! Specifications that nobody would write on purpose: each is refused with the
//! name of a field, or prepared; nothing ever panics. Needs no root.
//!
//! `PROPTEST_CASES=100000 cargo test -p runtime fuzz` searches longer.

use oci_spec::runtime::Spec;
use proptest::collection::vec;
use proptest::prelude::*;
use runtime::Error;
use serde_json::{Value, json};

/// A specification with a bit of everything.
fn everything() -> Value {
    json!({
        "ociVersion": "1.2.0",
        "hostname": "box",
        "domainname": "example",
        "annotations": { "a": "b" },
        "root": { "path": "/srv/root", "readonly": true },
        "process": {
            "terminal": false,
            "consoleSize": { "height": 24, "width": 80 },
            "user": { "uid": 1, "gid": 2, "umask": 18, "additionalGids": [3, 4] },
            "args": ["sh", "-c", "true"],
            "env": ["PATH=/bin", "TERM=x"],
            "cwd": "/",
            "capabilities": {
                "bounding": ["CAP_KILL", "CAP_CHOWN"], "permitted": ["CAP_KILL"],
                "effective": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"],
            },
            "rlimits": [{ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 2 }],
            "noNewPrivileges": true,
            "oomScoreAdj": 5,
            "scheduler": { "policy": "SCHED_OTHER", "nice": 1 },
            "ioPriority": { "class": "IOPRIO_CLASS_BE", "priority": 4 },
        },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc", "options": ["nosuid"] },
            { "destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=64k"] },
            { "destination": "/data", "type": "bind", "source": "/srv/data", "options": ["rbind", "ro", "rslave"] },
        ],
        "hooks": {
            "createRuntime": [{ "path": "/bin/hook", "args": ["hook"], "env": ["A=b"], "timeout": 5 }],
            "poststop": [{ "path": "/bin/hook" }],
        },
        "linux": {
            "namespaces": [
                { "type": "mount" }, { "type": "pid" }, { "type": "uts" }, { "type": "ipc" },
                { "type": "cgroup" }, { "type": "network", "path": "/run/netns/x" }, { "type": "user" },
                { "type": "time" },
            ],
            "uidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 }],
            "gidMappings": [{ "containerID": 0, "hostID": 1000, "size": 10 }],
            "timeOffsets": { "monotonic": { "secs": 1, "nanosecs": 2 } },
            "devices": [{ "path": "/dev/x", "type": "c", "major": 1, "minor": 3, "fileMode": 438, "uid": 0, "gid": 0 }],
            "resources": {
                "devices": [{ "allow": false, "access": "rwm" },
                            { "allow": true, "type": "c", "major": 1, "minor": -1, "access": "rw" }],
                "memory": { "limit": 1000, "swap": 2000, "reservation": 500, "kernel": 0,
                            "disableOOMKiller": false, "checkBeforeUpdate": true },
                "cpu": { "shares": 1024, "quota": 1000, "period": 2000, "burst": 1, "idle": 0,
                         "cpus": "0-1", "mems": "0" },
                "pids": { "limit": 10 },
                "blockIO": { "weight": 10,
                             "weightDevice": [{ "major": 8, "minor": 0, "weight": 20 }],
                             "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 5 }] },
                "hugepageLimits": [{ "pageSize": "2MB", "limit": 4 }],
                "rdma": { "mlx5_1": { "hcaHandles": 3 } },
                "unified": { "memory.high": "5" },
            },
            "sysctl": { "net.ipv4.ip_forward": "1" },
            "seccomp": {
                "defaultAction": "SCMP_ACT_ERRNO",
                "defaultErrnoRet": 1,
                "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_AARCH64"],
                "flags": ["SECCOMP_FILTER_FLAG_LOG"],
                "listenerPath": "/run/agent.sock",
                "syscalls": [
                    { "names": ["read", "nothing"], "action": "SCMP_ACT_ALLOW" },
                    { "names": ["socket"], "action": "SCMP_ACT_NOTIFY",
                      "args": [{ "index": 0, "value": 2, "valueTwo": 0, "op": "SCMP_CMP_EQ" }] },
                ],
            },
            "rootfsPropagation": "slave",
            "maskedPaths": ["/proc/keys"],
            "readonlyPaths": ["/proc/sys"],
            "personality": { "domain": "LINUX" },
        },
    })
}

/// The places of all values, except the root's.
fn places(value: &Value, at: &str, found: &mut Vec<String>) {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| (key.clone(), value))
            .collect(),
        Value::Array(items) => items
            .iter()
            .enumerate()
            .map(|(index, value)| (index.to_string(), value))
            .collect(),
        _ => Vec::new(),
    };
    for (key, value) in children {
        let place = format!("{at}/{key}");
        places(value, &place, found);
        found.push(place);
    }
}

/// What is done at a place.
#[derive(Debug, Clone)]
enum Change {
    Replace(Value),
    Remove,
    /// The item, or the value under another key, once more.
    Repeat,
    /// What is at another place.
    Copy(prop::sample::Index),
}

fn arb_value() -> impl Strategy<Value = Value> {
    let texts = [
        "",
        "/",
        "..",
        "/../x",
        "a\0b",
        "a=b",
        "=",
        "/proc/self/fd/1",
        "max",
        "-1",
        "bind",
        "ro",
        "idmap",
        "SCMP_ACT_NOTIFY",
        "SCMP_ACT_KILL",
        "CAP_SYS_ADMIN",
        "user",
        "mount",
        "c",
        "rwm",
        "memory.max",
        "cgroup.procs",
        "a:b:c",
        "\u{fffd}",
        "RLIMIT_CORE",
        "net.core.x",
    ];
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2..10_i64).prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        prop::sample::select(vec![
            u64::MAX,
            i64::MAX as u64,
            1 << 32,
            (1 << 32) - 1,
            1 << 31,
            65_536,
            4096,
        ])
        .prop_map(Value::from),
        prop::sample::select(texts.to_vec()).prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
        Just("x".repeat(5000)).prop_map(Value::from),
        Just(json!([])),
        Just(json!({})),
        Just(json!(1.5)),
    ]
}

fn arb_change() -> impl Strategy<Value = Change> {
    prop_oneof![
        6 => arb_value().prop_map(Change::Replace),
        2 => Just(Change::Remove),
        1 => Just(Change::Repeat),
        1 => any::<prop::sample::Index>().prop_map(Change::Copy),
    ]
}

fn change(spec: &mut Value, place: &str, change: &Change, all: &[String]) {
    let (above, key) = place.rsplit_once('/').unwrap();
    let copied = match change {
        Change::Copy(index) => spec.pointer(&all[index.index(all.len())]).cloned(),
        Change::Replace(_) | Change::Remove | Change::Repeat => None,
    };
    // An earlier change may have removed the place.
    let Some(above) = spec.pointer_mut(above) else {
        return;
    };
    match (above, change) {
        (Value::Object(map), Change::Remove) => drop(map.remove(key)),
        (Value::Object(map), Change::Repeat) => {
            if let Some(value) = map.get(key).cloned() {
                map.insert(format!("{key}x"), value);
            }
        }
        (Value::Array(items), Change::Remove | Change::Repeat) => {
            let index: usize = key.parse().unwrap_or(0);
            if let Some(item) = items.get(index).cloned() {
                match change {
                    Change::Remove => drop(items.remove(index)),
                    _ => items.push(item),
                }
            }
        }
        (above, change) => {
            let new = match change {
                Change::Replace(value) => Some(value.clone()),
                _ => copied,
            };
            let place = match above {
                Value::Object(map) => map.get_mut(key),
                Value::Array(items) => key
                    .parse()
                    .ok()
                    .and_then(|index: usize| items.get_mut(index)),
                _ => None,
            };
            if let (Some(place), Some(new)) = (place, new) {
                *place = new;
            }
        }
    }
}

/// The field's top, as an error names it.
fn names_a_field(error: &Error) -> bool {
    let text = error.to_string();
    let end = text.find(['.', '[', ' ', ':']).unwrap_or(text.len());
    let tops = [
        "ociVersion",
        "hostname",
        "domainname",
        "annotations",
        "root",
        "process",
        "mounts",
        "hooks",
        "linux",
        "windows",
        "solaris",
        "vm",
        "zos",
    ];
    tops.contains(&&text[..end])
}

#[test]
fn a_specification_with_everything_is_prepared() {
    let spec: Spec = serde_json::from_value(everything()).unwrap();
    runtime::prepare(&spec).unwrap();
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: ProptestConfig::default().cases.max(256) * 2,
        ..ProptestConfig::default()
    })]

    #[test]
    fn a_changed_specification_is_prepared_or_refused_by_the_name_of_a_field(
        changes in vec((any::<prop::sample::Index>(), arb_change()), 1..6),
    ) {
        let mut value = everything();
        let mut all = Vec::new();
        places(&value, "", &mut all);
        for (index, one) in &changes {
            change(&mut value, &all[index.index(all.len())], one, &all);
        }
        // Serde reports what is not a specification at all.
        if let Ok(spec) = serde_json::from_value::<Spec>(value.clone())
            && let Err(error) = runtime::prepare(&spec)
        {
            prop_assert!(names_a_field(&error), "{error}: {value}");
        }
    }

    #[test]
    fn text_that_is_no_specification_is_refused(text in "[\\[\\]{}\":,a-z0-9 ]{0,60}") {
        if let Ok(spec) = serde_json::from_str::<Spec>(&text) {
            let refused = runtime::prepare(&spec);
            prop_assert!(refused.is_err_and(|error| names_a_field(&error)));
        }
    }
}
