//! `run`: exit codes, signals, descriptors, leftovers.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::harness::{Box, can_run, until};

#[test]
fn the_exit_code_is_the_programs() {
    if !can_run() {
        return;
    }
    for (script, code) in [
        ("exit 0", 0),
        ("exit 7", 7),
        ("kill -KILL $$; sleep 1", 137),
    ] {
        // In the machine's own pid namespace a process can kill itself.
        let container = Box::new(script).set(
            "/linux/namespaces",
            json!([{ "type": "mount" }, { "type": "network" }, { "type": "uts" }]),
        );
        let output = container.run(&["run", "--bundle", "BUNDLE", "ID"]);
        assert_eq!(output.status.code(), Some(code), "{script}: {output:?}");
        assert!(!container.state_folder().exists());
        assert_eq!(container.cgroup(), None);
    }
}

#[test]
fn signals_are_passed_on() {
    if !can_run() {
        return;
    }
    let container = Box::new("trap 'exit 5' USR1; echo ready; while :; do sleep 0.05; done");
    let mut runtime = container
        .command(&["run", "--bundle", "BUNDLE", "ID"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = [0; 6];
    runtime
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut line)
        .unwrap();
    assert_eq!(&line, b"ready\n");
    kill(Pid::from_raw(runtime.id() as i32), Signal::SIGUSR1).unwrap();
    assert_eq!(runtime.wait().unwrap().code(), Some(5));
}

#[test]
fn a_container_may_be_kept() {
    if !can_run() {
        return;
    }
    let container = Box::new("exit 3");
    let output = container.run(&["run", "--keep", "--bundle", "BUNDLE", "ID"]);
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(container.status(), "stopped");
    container.must(&["delete", "ID"]);
}

#[test]
fn a_detached_container_goes_on_and_its_number_is_in_the_file() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    let file = container.folder.path().join("pid");
    container
        .begin(&[
            "run",
            "-d",
            "--bundle",
            "BUNDLE",
            "--pid-file",
            file.to_str().unwrap(),
            "ID",
        ])
        .unwrap();
    let pid: i64 = fs::read_to_string(&file).unwrap().parse().unwrap();
    assert_eq!(container.state()["pid"], pid);
    assert_eq!(container.status(), "running");
}

#[test]
fn descriptors_are_passed_where_they_are_asked_for() {
    if !can_run() {
        return;
    }
    let container = Box::new("cat <&3; cat <&4; echo $LISTEN_FDS; ls /proc/self/fd | wc -l");
    for name in ["first", "second"] {
        fs::write(container.folder.path().join(name), format!("{name}\n")).unwrap();
    }
    let output = container.folder.path().join("output");
    let runtime = container.command(&["run", "--preserve-fds", "1", "--bundle", "BUNDLE", "ID"]);
    // A shell moves them to their numbers, and knows its own number.
    let script = "exec 3<first 4<second; export LISTEN_FDS=1 LISTEN_PID=$$; exec \"$@\"";
    let status = std::process::Command::new("sh")
        .args(["-c", script, "sh"])
        .arg(runtime.get_program())
        .args(runtime.get_args())
        .current_dir(container.folder.path())
        .stdout(fs::File::create(&output).unwrap())
        .status()
        .unwrap();
    assert!(status.success());
    // ls has one more open, for the directory.
    assert_eq!(container.output(), "first\nsecond\n1\n6\n");
}

#[test]
fn a_descriptor_that_is_not_open_is_an_error() {
    if !can_run() {
        return;
    }
    let container = Box::new("true");
    let text = container.refused(&["run", "--preserve-fds", "5", "--bundle", "BUNDLE", "ID"]);
    assert!(text.contains("--preserve-fds"), "{text}");
    assert!(!container.state_folder().exists());
}

#[test]
fn a_killed_container_is_cleared_away() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    let mut runtime = container
        .command(&["run", "--bundle", "BUNDLE", "ID"])
        .spawn()
        .unwrap();
    until(|| {
        container.state_folder().join("state.json").exists() && container.status() == "running"
    });
    container.must(&["kill", "ID", "KILL"]);
    assert_eq!(runtime.wait().unwrap().code(), Some(137));
    assert!(!container.state_folder().exists());
}

#[test]
fn the_programs_user_can_open_its_standard_output_again() {
    if !can_run() {
        return;
    }
    let container = Box::new("echo again >/proc/self/fd/1; echo wrong >/proc/self/fd/2")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }));
    let output = container.run(&["run", "--bundle", "BUNDLE", "ID"]);
    assert_eq!(
        String::from_utf8_lossy(&output.stdout),
        "again\n",
        "{output:?}"
    );
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "wrong\n",
        "{output:?}"
    );
}

#[test]
fn the_cgroup_is_where_the_configuration_says() {
    if !can_run() {
        return;
    }
    let container = Box::new("cat /proc/self/cgroup; sleep 100");
    let path = format!("/cli-test-parent-{}/{}", std::process::id(), container.id);
    let container = container.set("/linux/cgroupsPath", json!(path));
    container.create();
    assert!(
        container
            .cgroup()
            .unwrap()
            .ends_with(path.trim_start_matches('/'))
    );
    container.must(&["delete", "ID"]);
    assert_eq!(container.cgroup(), None);
}

/// The runtime's command, executed by another program that changes what it
/// inherits.
fn by_way_of(before: &[&str], runtime: Command) -> Command {
    let mut command = Command::new(before[0]);
    command.args(&before[1..]).arg(runtime.get_program());
    command.args(runtime.get_args()).stdin(Stdio::null());
    command
}

#[test]
fn a_caller_that_ignores_the_end_of_children_gets_the_exit_code() {
    if !can_run() {
        return;
    }
    let container = Box::new("exit 7");
    let run = container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    let ignoring = ["sh", "-c", "trap '' CHLD; exec \"$@\"", "sh"];
    let output = by_way_of(&ignoring, run).output().unwrap();
    assert_eq!(output.status.code(), Some(7), "{output:?}");
}

#[test]
fn the_callers_cpus_are_not_the_containers() {
    if !can_run() {
        return;
    }
    let container = Box::new("grep Cpus_allowed_list /proc/self/status");
    let run = || container.command(&["run", "--bundle", "BUNDLE", "ID"]);
    let all = run().output().unwrap();
    let bound = by_way_of(&["taskset", "--cpu-list", "0"], run())
        .output()
        .unwrap();
    assert!(bound.status.success(), "{bound:?}");
    assert_eq!(
        String::from_utf8_lossy(&bound.stdout),
        String::from_utf8_lossy(&all.stdout)
    );
}

/// Hostile: a container that ends is deleted by another command, and a new one of the same name is made before its runtime notices. Outcome: that runtime leaves the new one alone.
#[test]
fn what_has_run_to_its_end_deletes_no_other_container_of_its_name() {
    if !can_run() {
        return;
    }
    let container = Box::new("sleep 100");
    let mut runtime = container
        .command(&["run", "--bundle", "BUNDLE", "ID"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    until(|| {
        container.state_folder().join("state.json").exists() && container.status() == "running"
    });
    let signal = |signal| kill(Pid::from_raw(runtime.id() as i32), signal).unwrap();
    signal(Signal::SIGSTOP);
    container.must(&["delete", "--force", "ID"]);
    container.create();
    signal(Signal::SIGCONT);
    assert_eq!(runtime.wait().unwrap().code(), Some(137));
    assert_eq!(container.status(), "created");
    assert!(container.cgroup().is_some());
}
