//! Device nodes, and the program that guards them.

use serde_json::json;

use crate::harness::{Container, can_run};

#[test]
fn the_default_devices_and_links_are_there_and_work() {
    if !can_run() {
        return;
    }
    let output = Container::new(
        "cd /dev; stat -c '%n %F %a %t:%T' null zero full random urandom tty; \
         readlink fd stdin stdout stderr ptmx; \
         head -c 3 zero | wc -c; head -c 3 urandom | wc -c; echo x > null; echo x 2>&1 > full || echo full",
    )
    .run()
    .success();
    let expected = "null character special file 666 1:3\n\
                    zero character special file 666 1:5\n\
                    full character special file 666 1:7\n\
                    random character special file 666 1:8\n\
                    urandom character special file 666 1:9\n\
                    tty character special file 666 5:0\n\
                    /proc/self/fd\n/proc/self/fd/0\n/proc/self/fd/1\n/proc/self/fd/2\npts/ptmx\n\
                    3\n3\n";
    assert!(output.starts_with(expected), "{output}");
    assert!(output.ends_with("full\n"), "{output}");
}

#[test]
fn an_asked_device_is_made_with_its_mode_and_owner() {
    if !can_run() {
        return;
    }
    let output = Container::new("stat -c '%F %a %u:%g %t:%T' /dev/some/thing; stat -c %F /dev/fifo; readlink /dev/ptmx")
        .set(
            "/linux/devices",
            json!([
                { "path": "/dev/some/thing", "type": "b", "major": 7, "minor": 12, "fileMode": 0o640, "uid": 3, "gid": 4 },
                { "path": "/dev/fifo", "type": "p", "major": 0, "minor": 0 },
                { "path": "/dev/ptmx", "type": "c", "major": 5, "minor": 2 },
            ]),
        )
        .run()
        .success();
    assert_eq!(output, "block special file 640 3:4 7:c\nfifo\npts/ptmx\n");
}

/// The kernel's log is the device that every machine has and no container does.
fn with_kernel_log(script: &str) -> Container {
    let syslog = json!(["CAP_SYSLOG"]);
    Container::new(script)
        .set(
            "/linux/devices",
            json!([{ "path": "/dev/kmsg", "type": "c", "major": 1, "minor": 11 }]),
        )
        .set(
            "/process/capabilities",
            json!({ "bounding": syslog, "permitted": syslog, "effective": syslog }),
        )
}

#[test]
fn a_device_that_no_rule_allows_cannot_be_opened() {
    if !can_run() {
        return;
    }
    let script = "(exec 3</dev/kmsg) && echo read; (exec 3>/dev/kmsg) && echo write; true";
    let denied = with_kernel_log(script).run().success();
    assert_eq!(
        denied.matches("Operation not permitted").count(),
        2,
        "{denied}"
    );
    let allow = json!([
        { "allow": false, "access": "rwm" },
        { "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" },
    ]);
    let output = with_kernel_log(script)
        .set("/linux/resources", json!({ "devices": allow }))
        .run()
        .success();
    assert!(output.starts_with("read\n"), "{output}");
    assert_eq!(
        output.matches("Operation not permitted").count(),
        1,
        "{output}"
    );
}

#[test]
fn rules_can_be_changed_while_the_container_runs() {
    if !can_run() {
        return;
    }
    let mut running = with_kernel_log("echo up; sleep 60").start(&[], &[]);
    running.expect_line("up");
    let script = "(exec 3</dev/kmsg) 2>/dev/null && echo open || echo closed";
    assert_eq!(running.exec(script).success(), "closed\n");
    let resources = |allow| {
        serde_json::from_value(json!({ "devices": [{ "allow": allow, "access": "rwm" }] })).unwrap()
    };
    running.cgroup.update(&resources(true)).unwrap();
    assert_eq!(running.exec(script).success(), "open\n");
    running.cgroup.update(&resources(false)).unwrap();
    assert_eq!(running.exec(script).success(), "closed\n");
    running.cgroup.kill().unwrap();
    running.finish();
}

#[test]
fn in_a_bound_dev_there_is_only_what_was_asked_for() {
    if !can_run() {
        return;
    }
    let dev = tempfile::TempDir::new().unwrap();
    let null = dev.path().join("null");
    crate::harness::make_node(
        &null,
        nix::sys::stat::SFlag::S_IFCHR,
        nix::sys::stat::makedev(1, 3),
    );
    std::os::unix::fs::chown(&null, Some(5), Some(6)).unwrap();
    let output = Container::new("ls /dev; stat -c '%F %u' /dev/null /dev/zero")
        .without_mount("/dev")
        .without_mount("/dev/pts")
        .mount("/dev/.", "bind", dev.path().to_str().unwrap(), &["bind"])
        .set(
            "/linux/devices",
            json!([
                { "path": "/dev/null", "type": "c", "major": 1, "minor": 3, "uid": 0 },
                { "path": "/dev/zero", "type": "c", "major": 1, "minor": 5, "uid": 9 },
            ]),
        )
        .run()
        .success();
    assert_eq!(
        output,
        "null\nzero\ncharacter special file 5\ncharacter special file 9\n"
    );
}
