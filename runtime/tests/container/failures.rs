//! What the caller learns when the program cannot be executed, and repeated starts.

use std::fs::File;
use std::os::fd::AsFd;

use serde_json::json;

use crate::harness::{Container, can_run};

#[test]
fn a_missing_program_is_named() {
    if !can_run() {
        return;
    }
    for (program, error) in [
        ("nothing", "executable file not found in $PATH: nothing"),
        (
            "/no/thing",
            "executing /no/thing: No such file or directory",
        ),
        ("/etc", "executing /etc: Permission denied"),
    ] {
        let message = Container::new("")
            .set("/process/args", json!([program]))
            .run()
            .failure();
        assert_eq!(message, error);
    }
}

#[test]
fn a_missing_root_is_named() {
    if !can_run() {
        return;
    }
    let message = Container::new("true")
        .set("/root/path", json!("/nowhere"))
        .run()
        .failure();
    assert_eq!(
        message,
        "opening the root /nowhere: No such file or directory"
    );
}

#[test]
fn one_preparation_is_good_for_many_starts() {
    if !can_run() {
        return;
    }
    let container = Container::new("echo $N");
    let prepared = runtime::prepare(&container.spec()).unwrap();
    let cgroup = crate::harness::new_cgroup(&Default::default());
    let null = File::open("/dev/null").unwrap();
    for count in 0..20 {
        let (read, write) = crate::harness::pipe();
        let started = prepared
            .start(runtime::Start {
                cgroup: Some(cgroup.fd()),
                stdio: runtime::Stdio {
                    stdin: null.as_fd(),
                    stdout: write.as_fd(),
                    stderr: write.as_fd(),
                },
                listen: &[],
                passed: &[],
                env: &[format!("N={count}")],
                lifecycle: None,
            })
            .unwrap();
        drop(write);
        let output = std::io::read_to_string(File::from(read)).unwrap();
        assert_eq!(output, format!("{count}\n"));
        nix::sys::wait::waitpid(started.pid, None).unwrap();
    }
    crate::harness::remove(&cgroup);
}
