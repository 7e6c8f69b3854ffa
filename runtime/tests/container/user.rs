//! User namespaces, and other cases that need an intermediate process.

use std::fs::{self, File};
use std::os::fd::AsFd;

use serde_json::json;

use crate::harness::{Container, can_run};

/// A container whose root is user 100000.
fn mapped(script: &str) -> Container {
    let container = Container::new(script)
        .set(
            "/linux/uidMappings",
            json!([{ "containerID": 0, "hostID": 100_000, "size": 65536 }]),
        )
        .set(
            "/linux/gidMappings",
            json!([{ "containerID": 0, "hostID": 200_000, "size": 65536 }]),
        );
    let root = container.root.path();
    for path in [root.to_path_buf(), root.join("etc"), root.join("tmp")] {
        std::os::unix::fs::chown(path, Some(100_000), Some(200_000)).unwrap();
    }
    let mut container = container;
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.push(json!({ "type": "user" }));
    container
}

#[test]
fn its_root_is_nobody_outside() {
    if !can_run() {
        return;
    }
    let output = mapped("id -u; id -g; cat /proc/self/uid_map /proc/self/gid_map; ls -ldn /etc")
        .run()
        .success();
    let words: Vec<&str> = output.split_ascii_whitespace().collect();
    assert_eq!(words[..2], ["0", "0"], "{output}");
    assert_eq!(
        words[2..8],
        ["0", "100000", "65536", "0", "200000", "65536"],
        "{output}"
    );
    assert_eq!(words[10..12], ["0", "0"], "{output}");
}

#[test]
fn all_that_containers_have_is_there_too() {
    if !can_run() {
        return;
    }
    let output = mapped(
        "echo x > /dev/null && head -c4 /dev/urandom | wc -c; hostname; ls /proc/self/fd | wc -l; \
         cat /proc/keys | wc -c; touch /tmp/x && echo made; cat /sys/class/net/lo/operstate; \
         echo $$; touch /proc/sys/kernel/domainname 2>/dev/null || echo readonly",
    )
    .run()
    .success();
    let words: Vec<&str> = output.split_ascii_whitespace().collect();
    assert_eq!(
        words,
        ["4", "box", "4", "0", "made", "unknown", "1", "readonly"],
        "{output}"
    );
}

#[test]
fn another_user_and_an_oom_score() {
    if !can_run() {
        return;
    }
    let output = mapped("id -u; id -G; cat /proc/self/oom_score_adj")
        .set(
            "/process/user",
            json!({ "uid": 1000, "gid": 1001, "additionalGids": [5, 7] }),
        )
        .set("/process/oomScoreAdj", json!(500))
        .run()
        .success();
    assert_eq!(output, "1000\n1001 5 7\n500\n");
}

#[test]
fn a_further_process_is_in_the_user_namespace() {
    if !can_run() {
        return;
    }
    let mut running = mapped("echo up; sleep 60").start(&[], &[]);
    running.expect_line("up");
    let output = running
        .exec("id -u; cat /proc/self/uid_map; touch /tmp/y && ls -n /tmp/y")
        .success();
    let words: Vec<&str> = output.split_ascii_whitespace().collect();
    assert_eq!(words[..4], ["0", "0", "100000", "65536"], "{output}");
    assert_eq!(words[6..8], ["0", "0"], "{output}");
    running.cgroup.kill().unwrap();
    running.finish();
}

#[test]
fn a_user_namespace_is_joined_with_the_namespaces_that_it_owns() {
    if !can_run() {
        return;
    }
    let mut first = mapped("echo up; sleep 60").start(&[], &[]);
    first.expect_line("up");
    let pid = first.started.pid;
    let path = |name: &str| format!("/proc/{pid}/ns/{name}");
    let second = Container::new(
        "hostname; cat /proc/self/uid_map; readlink /proc/self/ns/net; ls /proc | grep -c '^[0-9]'",
    )
    .set(
        "/linux/namespaces",
        json!([
            { "type": "mount" },
            { "type": "uts", "path": path("uts") },
            { "type": "network", "path": path("net") },
            { "type": "pid", "path": path("pid") },
            { "type": "user", "path": path("user") },
            { "type": "ipc" },
        ]),
    )
    .set("/hostname", json!(null));
    let net = fs::read_link(path("net")).unwrap();
    let output = second.run().success();
    let lines: Vec<&str> = output.lines().collect();
    assert_eq!(lines[0], "box", "{output}");
    assert!(lines[1].contains("100000"), "{output}");
    assert_eq!(lines[2], net.to_str().unwrap(), "{output}");
    // The first container's shell, sleep, and what runs here.
    assert!(lines[3].parse::<u32>().unwrap() >= 4, "{output}");
    first.cgroup.kill().unwrap();
    first.finish();
}

#[test]
fn clocks_are_offset_in_a_new_time_namespace() {
    if !can_run() {
        return;
    }
    let mut container = Container::new("cut -d. -f1 /proc/uptime").set(
        "/linux/timeOffsets",
        json!({ "boottime": { "secs": 1_000_000 }, "monotonic": { "secs": 5, "nanosecs": 7 } }),
    );
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.push(json!({ "type": "time" }));
    let output = container.run().success();
    assert!(
        output.trim().parse::<u64>().unwrap() >= 1_000_000,
        "{output}"
    );
}

#[test]
fn a_namespace_that_cannot_be_joined_is_named() {
    if !can_run() {
        return;
    }
    let mut container = mapped("true");
    let namespaces = container.spec["linux"]["namespaces"]
        .as_array_mut()
        .unwrap();
    namespaces.retain(|namespace| namespace["type"] != "ipc");
    namespaces.push(json!({ "type": "ipc", "path": "/proc/self/nothing" }));
    let spec = container.spec();
    let null = File::open("/dev/null").unwrap();
    let error = runtime::prepare(&spec)
        .unwrap()
        .start(runtime::Start {
            cgroup: None,
            stdio: runtime::Stdio {
                stdin: null.as_fd(),
                stdout: null.as_fd(),
                stderr: null.as_fd(),
            },
            listen: &[],
            passed: &[],
            env: &[],
            lifecycle: None,
        })
        .unwrap_err();
    assert!(error.to_string().contains("/proc/self/nothing"), "{error}");
}

/// The Debian guest's podman shows that limits are raised wherever tests run.
#[test]
fn limits_are_raised_by_the_caller_or_the_refusal_is_named() {
    const CAP_SYS_RESOURCE: u64 = 1 << 24;
    if !can_run() {
        return;
    }
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:\t"));
    let effective = u64::from_str_radix(effective.unwrap(), 16).unwrap();
    let limits = fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits
        .lines()
        .find(|line| line.starts_with("Max msgqueue size"))
        .unwrap();
    let hard: u64 = line
        .split_ascii_whitespace()
        .nth(4)
        .unwrap()
        .parse()
        .unwrap();
    let container =
        mapped("grep 'Max msgqueue size' /proc/self/limits | tr -s ' ' | cut -d' ' -f4,5").set(
            "/process/rlimits",
            json!([{ "type": "RLIMIT_MSGQUEUE", "soft": 100, "hard": hard + 1 }]),
        );
    if effective & CAP_SYS_RESOURCE != 0 {
        let output = container.run().success();
        assert_eq!(output, format!("100 {}\n", hard + 1));
    } else {
        let message = container.refusal();
        assert!(message.contains("RLIMIT_MSGQUEUE"), "{message}");
        assert!(message.contains("not permitted"), "{message}");
    }
}

#[test]
fn devices_are_the_hosts_and_fifos_are_made() {
    if !can_run() {
        return;
    }
    let output =
        mapped("stat -c '%n %F %t:%T' /dev/null /dev/pipe; echo x > /dev/full || echo full")
            .set(
                "/linux/devices",
                json!([{ "path": "/dev/pipe", "type": "p" }]),
            )
            .run()
            .success();
    assert!(
        output.starts_with("/dev/null character special file 1:3\n/dev/pipe fifo 0:0\n"),
        "{output}"
    );
}

#[test]
fn a_cgroup_that_it_can_write_is_its_own() {
    if !can_run() {
        return;
    }
    let run = |options: &[&str]| {
        mapped("mkdir /cg/below 2>/dev/null && rmdir /cg/below && echo made; true")
            .mount("/cg", "cgroup", "cgroup", options)
            .run()
            .success()
    };
    assert_eq!(run(&["nosuid"]), "made\n");
    assert_eq!(run(&["nosuid", "ro"]), "");
}

/// Hostile: a container with a user namespace and the machine's network asks for sysfs, which it may not mount. Outcome: it gets the machine's, read-only with everything below, or an error that names the option.
#[test]
fn without_a_network_of_its_own_its_sysfs_is_the_machines_and_read_only() {
    if !can_run() {
        return;
    }
    let shared = |options: &[&str]| {
        let mut container = mapped(
            "ls /sys/class/net | head -c1 | wc -c; \
             grep ' /sys' /proc/self/mountinfo | cut -d' ' -f6 | cut -d, -f1 | sort -u",
        )
        .without_mount("/sys")
        .mount("/sys", "sysfs", "sysfs", options)
        .set("/linux/maskedPaths", json!([]));
        container.spec["linux"]["namespaces"]
            .as_array_mut()
            .unwrap()
            .retain(|namespace| namespace["type"] != "network");
        container
    };
    let output = shared(&["nosuid", "noexec", "nodev", "ro"]).run().success();
    assert_eq!(output, "1\nro\n");
    let text = runtime::prepare(&shared(&["nosuid"]).spec())
        .unwrap_err()
        .to_string();
    assert!(text.contains(".options: need \"ro\""), "{text}");
}
