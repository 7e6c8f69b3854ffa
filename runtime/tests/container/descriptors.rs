//! What the program has open, and how signals act on it.

use std::fs::File;
use std::io::Write;
use std::os::fd::AsFd;

use serde_json::json;

use crate::harness::{Container, can_run};

const LIST: &str = "ls -l /proc/self/fd | sed -n 's/.* \\([0-9]*\\) -> /\\1 /p'";

#[test]
fn only_the_descriptors_passed_are_open() {
    if !can_run() {
        return;
    }
    // Inheritable, as a library might leave them.
    let leaks: Vec<_> = (0..5)
        .map(|_| {
            nix::fcntl::open(
                "/etc",
                nix::fcntl::OFlag::O_RDONLY,
                nix::sys::stat::Mode::empty(),
            )
            .unwrap()
        })
        .collect();
    let output = Container::new(LIST).run().success();
    drop(leaks);
    let numbers: Vec<_> = output
        .lines()
        .map(|line| line.split(' ').next().unwrap())
        .collect();
    // 3 is the directory that ls reads.
    assert_eq!(numbers, ["0", "1", "2", "3"], "{output}");
    assert!(output.contains("3 /proc/"), "{output}");
}

#[test]
fn listening_descriptors_come_from_three_on_with_their_variables() {
    if !can_run() {
        return;
    }
    let files: Vec<File> = ["a\n", "b\n", "c\n"]
        .iter()
        .map(|text| {
            let mut file = tempfile::tempfile().unwrap();
            file.write_all(text.as_bytes()).unwrap();
            file
        })
        .collect();
    let listen: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
    let script = format!(
        "cat /proc/self/fd/3 /proc/self/fd/4 /proc/self/fd/5; echo $LISTEN_FDS $LISTEN_FDNAMES; \
         test $LISTEN_PID = $$ && echo mine; echo $TWICE; {LIST} | wc -l"
    );
    let env = ["LISTEN_FDNAMES=x:y:z".to_string(), "TWICE=2".to_string()];
    for namespaces in [
        json!([{ "type": "mount" }, { "type": "pid" }]),
        json!([{ "type": "mount" }]),
    ] {
        let output = Container::new(&script)
            .set("/linux/namespaces", namespaces)
            .set("/hostname", json!(""))
            .set("/process/env", json!(["PATH=/usr/bin", "TWICE=1"]))
            .start(&listen, &env)
            .finish()
            .success();
        assert_eq!(output, "a\nb\nc\n3 x:y:z\nmine\n2\n7\n");
    }
}

#[test]
fn signals_act_as_a_program_expects() {
    if !can_run() {
        return;
    }
    // This process ignores SIGPIPE, as every Rust program does.
    let mut blocked = nix::sys::signal::SigSet::empty();
    blocked.add(nix::sys::signal::Signal::SIGUSR1);
    blocked.thread_block().unwrap();
    // cat has no handlers of its own.
    let output = Container::new("")
        .set("/process/args", json!(["cat", "/proc/self/status"]))
        .run()
        .success();
    blocked.thread_unblock().unwrap();
    let signals = ["SigBlk:", "SigIgn:", "SigCgt:"];
    let lines: Vec<_> = output
        .lines()
        .filter(|line| signals.iter().any(|name| line.starts_with(name)))
        .collect();
    assert_eq!(
        lines,
        signals.map(|name| format!("{name}\t0000000000000000"))
    );
}

#[test]
fn the_program_leads_a_session_of_its_own() {
    if !can_run() {
        return;
    }
    let output = Container::new("cut -d' ' -f5,6 /proc/self/stat; cut -d' ' -f1,6 /proc/1/stat")
        .run()
        .success();
    assert!(output.ends_with("1 1\n"), "{output}");
}
