//! Other processes in a container.

use std::fs;

use serde_json::json;

use crate::harness::{Box, can_run, is_alive, until};

fn running() -> Box {
    let container = Box::new("sleep 100");
    container.create();
    container.must(&["start", "ID"]);
    container
}

#[test]
fn a_process_runs_in_the_container_and_its_exit_code_is_ours() {
    if !can_run() {
        return;
    }
    let container = running();
    let output = container.run(&[
        "exec",
        "ID",
        "sh",
        "-c",
        "hostname; cat /proc/1/comm; exit 6",
    ]);
    assert_eq!(output.status.code(), Some(6));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "box\nsh\n");
    let killed = container.run(&["exec", "ID", "sh", "-c", "kill -KILL $$"]);
    assert_eq!(killed.status.code(), Some(137));
}

#[test]
fn options_change_the_process() {
    if !can_run() {
        return;
    }
    let container = running();
    let script =
        "pwd; id -u; id -g; id -G; echo $A $B; grep -E 'NoNewPrivs|CapEff' /proc/self/status";
    let output = container.must(&[
        "exec",
        "--cwd",
        "/tmp",
        "--user",
        "12:34",
        "-g",
        "56",
        "--env",
        "A=1",
        "-e",
        "B=2",
        "--no-new-privs",
        "ID",
        "sh",
        "-c",
        script,
    ]);
    assert_eq!(
        output,
        "/tmp\n12\n34\n34 56\n1 2\nCapEff:\t0000000000000000\nNoNewPrivs:\t1\n"
    );
    let capable = container.must(&[
        "exec",
        "--cap",
        "CAP_KILL",
        "ID",
        "grep",
        "CapEff",
        "/proc/self/status",
    ]);
    assert_eq!(capable, "CapEff:\t0000000000000020\n");
}

#[test]
fn a_whole_process_comes_from_a_file() {
    if !can_run() {
        return;
    }
    let container = running();
    let file = container.folder.path().join("process.json");
    let process = json!({
        "args": ["sh", "-c", "echo $X; pwd; umask"],
        "env": ["PATH=/usr/bin", "X=y"],
        "cwd": "/tmp",
        "user": { "uid": 1, "gid": 1, "umask": 0o077 },
    });
    fs::write(&file, process.to_string()).unwrap();
    let output = container.must(&["exec", "--process", file.to_str().unwrap(), "ID"]);
    assert_eq!(output, "y\n/tmp\n0077\n");
}

#[test]
fn a_detached_process_goes_on_and_its_number_is_in_the_file() {
    if !can_run() {
        return;
    }
    let container = running();
    let file = container.folder.path().join("pid");
    let path = file.to_str().unwrap();
    container
        .begin(&["exec", "--detach", "--pid-file", path, "ID", "sleep", "100"])
        .unwrap();
    let pid: i64 = fs::read_to_string(&file).unwrap().parse().unwrap();
    assert!(is_alive(pid));
    let listed = container.must(&["ps", "-f", "json", "ID"]);
    assert!(listed.contains(&pid.to_string()), "{listed}");
    // It does not outlive the container.
    container.must(&["delete", "--force", "ID"]);
    until(|| !is_alive(pid));
}

#[test]
fn a_program_that_is_not_there_is_told_from_one_that_must_not_run() {
    if !can_run() {
        return;
    }
    let container = running();
    for (program, words) in [
        ("nothing", "executable file not found in $PATH"),
        ("/nothing", "no such file or directory"),
        ("/etc", "permission denied"),
    ] {
        let output = container.run(&["exec", "ID", program]);
        assert_eq!(output.status.code(), Some(255), "{program}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(words), "{program}: {text}");
    }
}

#[test]
fn nothing_runs_in_a_container_that_has_stopped() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    container.create();
    container.must(&["start", "ID"]);
    container.wait_for("stopped");
    let text = container.refused(&["exec", "ID", "true"]);
    assert!(text.contains("container not running"), "{text}");
}

#[test]
fn a_process_may_be_put_into_a_cgroup_below() {
    if !can_run() {
        return;
    }
    let container = running();
    let below = container.cgroup().unwrap().join("below");
    fs::create_dir(&below).unwrap();
    container
        .begin(&["exec", "-d", "--cgroup", "/below", "ID", "sleep", "100"])
        .unwrap();
    let processes = fs::read_to_string(below.join("cgroup.procs")).unwrap();
    assert_eq!(processes.lines().count(), 1);
    for wrong in ["/nothing", "../..", "/below/../.."] {
        container.refused(&["exec", "--cgroup", wrong, "ID", "true"]);
    }
}

#[test]
fn descriptors_are_passed() {
    if !can_run() {
        return;
    }
    let container = running();
    fs::write(container.folder.path().join("file"), "passed\n").unwrap();
    let runtime = container.command(&["exec", "--preserve-fds", "1", "ID", "cat", "/dev/fd/3"]);
    let output = std::process::Command::new("sh")
        .args(["-c", "exec 3<file 4<file; exec \"$@\"", "sh"])
        .arg(runtime.get_program())
        .args(runtime.get_args())
        .current_dir(container.folder.path())
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "passed\n",
        "{output:?}"
    );
}
