//! What is the container's own, and what it shares.

use std::fs;

use serde_json::json;

use crate::harness::{Container, can_run};

const ALL: [&str; 6] = ["mnt", "pid", "net", "ipc", "uts", "cgroup"];

fn script() -> String {
    format!(
        "cd /proc/self/ns; for n in {}; do readlink $n; done",
        ALL.join(" ")
    )
}

fn of_this_process() -> Vec<String> {
    ALL.map(|name| {
        let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        link.to_string_lossy().into_owned()
    })
    .to_vec()
}

#[test]
fn every_namespace_can_be_the_containers_own() {
    if !can_run() {
        return;
    }
    let output = Container::new(&script()).run().success();
    assert_eq!(output.lines().count(), ALL.len(), "{output}");
    for (own, ours) in output.lines().zip(of_this_process()) {
        assert_ne!(own, ours);
    }
}

#[test]
fn what_is_not_listed_is_shared() {
    if !can_run() {
        return;
    }
    let output = Container::new(&script())
        .set("/linux/namespaces", json!([{ "type": "mount" }]))
        .set("/hostname", json!(""))
        .run()
        .success();
    let own: Vec<_> = output.lines().collect();
    let ours = of_this_process();
    assert_ne!(own[0], ours[0]);
    assert_eq!(own[1..], ours[1..]);
}

#[test]
fn the_program_is_the_first_process_and_has_the_host_name() {
    if !can_run() {
        return;
    }
    let output =
        Container::new("echo $$; cat /proc/sys/kernel/hostname; cat /proc/self/cgroup | grep ^0:")
            .run()
            .success();
    assert_eq!(output, "1\nbox\n0::/\n");
}

#[test]
fn a_new_network_has_its_loopback_interface_up_and_no_other() {
    if !can_run() {
        return;
    }
    let script = "cat /sys/class/net/lo/flags; ls /sys/class/net";
    let output = Container::new(script).run().success();
    let mut lines = output.lines();
    assert_eq!(lines.next(), Some("0x9"));
    // Some kernels add tunnels that are down.
    assert!(lines.any(|name| name == "lo"), "{output}");
    assert!(!output.contains("eth"), "{output}");
}

#[test]
fn a_parameter_is_set_in_the_containers_network_only() {
    if !can_run() {
        return;
    }
    let file = "/proc/sys/net/ipv4/ip_default_ttl";
    let before = fs::read_to_string(file).unwrap();
    let output = Container::new(&format!("cat {file}"))
        .set("/linux/sysctl", json!({ "net.ipv4.ip_default_ttl": "77" }))
        .run()
        .success();
    assert_eq!(output, "77\n");
    assert_eq!(fs::read_to_string(file).unwrap(), before);
}

#[test]
fn namespaces_can_be_joined_by_path() {
    if !can_run() {
        return;
    }
    let mut first = Container::new("echo up; sleep 60").start(&[], &[]);
    first.expect_line("up");
    let at = |name: &str| format!("/proc/{}/ns/{name}", first.started.pid);
    let output = Container::new(&format!("{}; echo $$", script()))
        .set("/hostname", json!(""))
        .set(
            "/linux/namespaces",
            json!([
                { "type": "mount" },
                { "type": "pid", "path": at("pid") },
                { "type": "network", "path": at("net") },
                { "type": "ipc", "path": at("ipc") },
                { "type": "uts", "path": at("uts") },
            ]),
        )
        .run()
        .success();
    let lines: Vec<_> = output.lines().collect();
    for (name, joined) in ALL.iter().zip(&lines).skip(1).take(4) {
        let wanted = fs::read_link(at(name)).unwrap();
        assert_eq!(Some(*joined), wanted.to_str(), "{name}");
    }
    assert_ne!(lines[6], "1", "it is not the first process there");
    first.cgroup.kill().unwrap();
    first.finish();
}

#[test]
fn a_path_to_a_namespace_of_another_kind_is_an_error() {
    if !can_run() {
        return;
    }
    let message = Container::new("true")
        .set("/linux/namespaces/2/path", json!("/proc/self/ns/uts"))
        .run()
        .failure();
    assert!(
        message.starts_with("joining the namespace /proc/self/ns/uts"),
        "{message}"
    );
}

#[test]
fn a_mount_namespace_is_joined_with_the_root_that_it_has() {
    if !can_run() {
        return;
    }
    let mut first = Container::new("touch /tmp/marker; echo up; sleep 60").start(&[], &[]);
    first.expect_line("up");
    let second = Container::new("ls /tmp; readlink /proc/self/ns/mnt")
        .set("/root", json!({ "path": "/" }))
        .set("/mounts", json!([]))
        .set("/linux/maskedPaths", json!([]))
        .set("/linux/readonlyPaths", json!([]))
        .set("/hostname", json!(null))
        .set(
            "/linux/namespaces",
            json!([
                { "type": "mount", "path": format!("/proc/{}/ns/mnt", first.started.pid) },
                { "type": "pid", "path": format!("/proc/{}/ns/pid", first.started.pid) },
            ]),
        );
    let namespace = std::fs::read_link(format!("/proc/{}/ns/mnt", first.started.pid)).unwrap();
    let output = second.run().success();
    assert_eq!(output, format!("marker\n{}\n", namespace.display()));
    let text = match runtime::prepare(&second.set("/root/readonly", json!(true)).spec()) {
        Ok(_) => panic!("its root would be read-only for all"),
        Err(error) => error.to_string(),
    };
    assert!(text.starts_with("root.readonly"), "{text}");
    first.cgroup.kill().unwrap();
    first.finish();
}

#[test]
fn a_mount_namespace_that_is_not_listed_is_the_callers_and_nothing_changes_in_it() {
    if !can_run() {
        return;
    }
    let namespaces = json!([{ "type": "pid" }, { "type": "uts" }]);
    let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    let bare = |script: &str| {
        Container::new(script)
            .set("/root", json!({ "path": "/" }))
            .set("/mounts", json!([]))
            .set("/linux/maskedPaths", json!([]))
            .set("/linux/readonlyPaths", json!([]))
            .set("/linux/namespaces", namespaces.clone())
    };
    // The caller's /proc shows no process of the new pid namespace as "self".
    let running = bare("sleep 60").start(&[], &[]);
    let link = format!("/proc/{}/ns/mnt", running.started.pid);
    assert_eq!(std::fs::read_link(link).unwrap(), own);
    running.cgroup.kill().unwrap();
    running.finish();
    for (field, value) in [
        ("/root/readonly", json!(true)),
        (
            "/mounts",
            json!([{ "destination": "/x", "type": "tmpfs", "source": "x" }]),
        ),
        ("/linux/maskedPaths", json!(["/x"])),
    ] {
        let text = runtime::prepare(&bare("true").set(field, value).spec())
            .unwrap_err()
            .to_string();
        let name = field[1..].replace('/', ".");
        assert!(
            text.starts_with(&format!("{name}: would change the caller")),
            "{text}"
        );
    }
}
