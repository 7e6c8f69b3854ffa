//! The terminal of a container's process.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;

use runtime::Setup;
use serde_json::json;

use crate::harness::{Container, can_run};
use crate::lifecycle::{Created, next, receive, sockets};

fn read_until(master: &mut File, wanted: &str) -> String {
    let mut text = String::new();
    while !text.contains(wanted) {
        let mut part = [0; 256];
        let length = master.read(&mut part).unwrap_or(0);
        assert_ne!(length, 0, "{text}");
        text += std::str::from_utf8(&part[..length]).unwrap();
    }
    text
}

fn with_terminal(script: &str) -> Container {
    Container::new(script)
        .set("/process/terminal", json!(true))
        .set("/process/consoleSize", json!({ "height": 33, "width": 99 }))
}

#[test]
fn a_process_has_the_terminal_whose_master_was_sent() {
    if !can_run() {
        return;
    }
    let (ours, theirs) = sockets();
    let script = "tty; stty size; [ /dev/console -ef /dev/pts/0 ] && echo same; \
                  ps -o tty= -p $$; read line; echo got $line; echo done";
    let container = with_terminal(script).set("/process/user/uid", json!(1000));
    let created = Created::with_sockets(container, Some(theirs.as_fd()), None);
    assert_eq!(next(&created.started.setup), Setup::Created);
    // Whoever creates it has the terminal before it starts.
    let (_, mut master) = receive(&ours);
    assert_eq!(next(&created.start()), Setup::Executed);
    master.write_all(b"hello\n").unwrap();
    let text = read_until(&mut master, "done").replace('\r', "");
    for needle in [
        "/dev/pts/0\n",
        "33 99\n",
        "same\n",
        "pts/0\n",
        "got hello\n",
    ] {
        assert!(text.contains(needle), "{needle:?} in {text}");
    }
    created.end();
}

#[test]
fn a_further_process_has_a_terminal_of_its_own() {
    if !can_run() {
        return;
    }
    let mut running = Container::new("echo up; sleep 60").start(&[], &[]);
    running.expect_line("up");
    let (ours, theirs) = sockets();
    let process = serde_json::from_value(json!({
        "terminal": true, "user": { "uid": 0, "gid": 0 }, "cwd": "/",
        "args": ["sh", "-c", "tty; echo done; read line"], "env": ["PATH=/usr/bin"],
    }))
    .unwrap();
    let null = File::open("/dev/null").unwrap();
    let started = running
        .prepared
        .exec_process(&process)
        .unwrap()
        .start(
            running.started.pidfd.as_fd(),
            runtime::Exec {
                cgroup: Some(running.cgroup.fd()),
                stdio: runtime::Stdio {
                    stdin: null.as_fd(),
                    stdout: null.as_fd(),
                    stderr: null.as_fd(),
                },
                passed: &[],
                console: Some(theirs.as_fd()),
                listener: None,
                keep_keyring: false,
            },
        )
        .unwrap();
    assert_eq!(next(&started.setup), Setup::Executed);
    let (_, mut master) = receive(&ours);
    let text = read_until(&mut master, "done");
    assert!(text.contains("/dev/pts/0"), "{text}");
    running.cgroup.kill().unwrap();
    nix::sys::wait::waitpid(started.pid, None).unwrap();
    running.finish();
}

#[test]
fn without_a_devpts_or_a_socket_there_is_no_terminal() {
    if !can_run() {
        return;
    }
    let (_ours, theirs) = sockets();
    let container = with_terminal("true").without_mount("/dev/pts");
    let created = Created::with_sockets(container, Some(theirs.as_fd()), None);
    let Setup::Failed(error) = next(&created.started.setup) else {
        panic!("no failure");
    };
    assert!(error.to_string().contains("/dev/pts/ptmx"), "{error}");
    created.end();
}
