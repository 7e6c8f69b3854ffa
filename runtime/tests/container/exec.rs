//! Another process in a running container.

use std::fs;
use std::os::fd::AsFd;

use serde_json::json;

use crate::harness::{Container, can_run, cgroup2};

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

/// Hostile: a privileged container looks for helpers that enter it (health probes, exec) and through them at the machine's files. Outcome: it never sees one that has the machine's root.
#[test]
fn what_enters_a_container_is_never_seen_there_with_the_machines_root() {
    if !can_run() {
        return;
    }
    // The container's own root has no such file.
    assert!(fs::exists("/etc/passwd").unwrap());
    let script = "echo up; cd /proc; while :; do for p in [0-9]*; do \
                  [ -e $p/root/etc/passwd ] && echo reached; \
                  [ $p != 1 ] && [ $p != $$ ] && [ -e $p/root/. ] && seen=yes; done; \
                  [ -n \"$seen\" ] && echo met && seen=; done 2>/dev/null";
    let everything = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_SYS_ADMIN"]);
    let mut running = Container::new(script)
        .set(
            "/process/capabilities",
            json!({ "bounding": everything, "permitted": everything, "effective": everything }),
        )
        .start(&[], &[]);
    running.expect_line("up");
    for _ in 0..60 {
        running.exec("true").success();
    }
    running.cgroup.kill().unwrap();
    let output = running.finish().output;
    assert!(output.contains("met"), "no process was ever looked at");
    assert!(
        !output.contains("reached"),
        "the machine's root was reached"
    );
}

/// Hostile: a container keeps its processes in cgroups of its own, so that none fits beside them. Outcome: health probes and exec run in the cgroup of its first process.
#[test]
fn beside_inner_cgroups_another_process_is_where_the_first_one_is() {
    if !can_run() {
        return;
    }
    let mut running = Container::new("echo up; exec sleep 60").start(&[], &[]);
    running.expect_line("up");
    let own = cgroup2().join(running.cgroup.name());
    let inner = own.join("payload/first");
    fs::create_dir_all(&inner).unwrap();
    for pid in running.cgroup.processes().unwrap() {
        fs::write(inner.join("cgroup.procs"), pid.to_string()).unwrap();
    }
    let controllers = fs::read_to_string(own.join("cgroup.controllers")).unwrap();
    let Some(controller) = controllers.split_ascii_whitespace().next() else {
        println!("skipped: no controller is handed down to the test's cgroups");
        running.cgroup.kill().unwrap();
        running.finish();
        return;
    };
    fs::write(own.join("cgroup.subtree_control"), format!("+{controller}")).unwrap();
    let output = running.exec("grep ^0: /proc/self/cgroup").success();
    assert_eq!(output, "0::/payload/first\n");
    running.cgroup.kill().unwrap();
    running.finish();
}

/// Hostile: an image has plain files by the names that security labels are written to in /proc. Outcome: a process that enters the container writes to the machine's /proc, never to them.
#[test]
fn a_label_is_never_written_to_the_containers_proc() {
    if !can_run() {
        return;
    }
    let container = Container::new("echo up; exec sleep 60").without_mount("/proc");
    let proc = container.root.path().join("proc");
    let names = [
        "thread-self/attr/apparmor/exec",
        "thread-self/attr/exec",
        "self/attr/exec",
    ];
    for name in names {
        let file = proc.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, "").unwrap();
    }
    let mut running = container
        .set("/root/readonly", json!(false))
        .start(&[], &[]);
    running.expect_line("up");
    let process = json!({
        "user": { "uid": 0, "gid": 0 }, "cwd": "/", "args": ["/usr/bin/true"],
        "apparmorProfile": "no-such-profile",
    });
    let outcome = running.exec_process(process);
    assert!(
        outcome.failure().contains("apparmor"),
        "a profile that nobody has"
    );
    for name in names {
        let inside = format!("/proc/{}/root/proc/{name}", running.started.pid);
        assert_eq!(fs::read_to_string(inside).unwrap(), "", "{name}");
    }
    running.cgroup.kill().unwrap();
    running.finish();
}
