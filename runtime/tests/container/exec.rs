//! Another process in a running container.

use std::fs;
use std::os::fd::AsFd;

use serde_json::json;

use crate::harness::{Container, can_run};

fn running() -> crate::harness::Running {
    let mut running = Container::new("echo up; sleep 60")
        .set("/process/user", json!({ "uid": 11, "gid": 12 }))
        .set("/process/oomScoreAdj", json!(100))
        .start(&[], &[]);
    running.expect_line("up");
    running
}

#[test]
fn it_is_where_the_container_is_and_may_what_the_container_may() {
    if !can_run() {
        return;
    }
    let running = running();
    let script = "cd /proc/self; readlink ns/mnt ns/pid ns/net ns/ipc ns/uts ns/cgroup; \
                  cat cgroup | grep ^0:; id -u; id -g; cat oom_score_adj; echo $EXEC; pwd; \
                  grep -E '^(CapBnd|NoNewPrivs)' status | cut -f2; cat /proc/1/comm";
    let output = running.exec(script).success();
    let lines: Vec<_> = output.lines().collect();
    for (name, line) in ["mnt", "pid", "net", "ipc", "uts", "cgroup"]
        .iter()
        .zip(&lines)
    {
        let path = format!("/proc/{}/ns/{name}", running.started.pid);
        assert_eq!(fs::read_link(path).unwrap().to_str(), Some(*line));
    }
    let rest = [
        "0::/",
        "11",
        "12",
        "100",
        "1",
        "/proc/self",
        "0000000000000000",
        "1",
        "sh",
    ];
    assert_eq!(lines[6..], rest);
    running.cgroup.kill().unwrap();
    running.finish();
}

#[test]
fn it_has_only_its_standard_descriptors() {
    if !can_run() {
        return;
    }
    let running = running();
    let output = running.exec("ls /proc/self/fd | wc -l").success();
    assert_eq!(output, "4\n");
    running.cgroup.kill().unwrap();
    running.finish();
}

#[test]
fn it_ends_with_the_container() {
    if !can_run() {
        return;
    }
    let running = running();
    running.cgroup.kill().unwrap();
    let (pid, container) = (
        running.started.pid,
        running.started.pidfd.try_clone().unwrap(),
    );
    let prepared = runtime::prepare(&Container::new("true").spec()).unwrap();
    running.finish();
    let null = fs::File::open("/dev/null").unwrap();
    let process = runtime::ExecProcess {
        args: vec!["true".into()],
        env: Vec::new(),
        cwd: None,
    };
    let stdio = runtime::Stdio {
        stdin: null.as_fd(),
        stdout: null.as_fd(),
        stderr: null.as_fd(),
    };
    let cgroup = crate::harness::new_cgroup(&Default::default());
    let exec = runtime::Exec {
        cgroup: Some(cgroup.fd()),
        stdio,
        passed: &[],
        console: None,
        listener: None,
        keep_keyring: false,
    };
    let prepared = prepared.exec(&process).unwrap();
    let error = prepared
        .start(container.as_fd(), exec)
        .expect_err("the container is gone");
    assert!(
        error.to_string().contains("No such process"),
        "{error} ({pid})"
    );
    cgroup.remove().unwrap();
}

#[test]
fn without_a_pid_namespace_of_its_own_it_works_too() {
    if !can_run() {
        return;
    }
    let mut running = Container::new("echo up; sleep 60")
        .set(
            "/linux/namespaces",
            json!([{ "type": "mount" }, { "type": "uts" }]),
        )
        .start(&[], &[]);
    running.expect_line("up");
    let output = running.exec("cat /proc/sys/kernel/hostname").success();
    assert_eq!(output, "box\n");
    running.cgroup.kill().unwrap();
    running.finish();
}
