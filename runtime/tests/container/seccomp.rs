//! Filters, as the kernel runs them.

use std::os::fd::AsFd;

use oci_spec::runtime::Capabilities;
use runtime::Setup;
use serde_json::{json, to_value};

use crate::harness::{Container, can_run};
use crate::lifecycle::{Created, next, receive, sockets};
use crate::sys::refuse_call;

#[test]
fn ordinary_programs_run_under_the_default_profile() {
    if !can_run() {
        return;
    }
    let profile = to_value(runtime::default_seccomp(&Capabilities::new())).unwrap();
    let output = Container::new(
        "grep '^Seccomp:' /proc/self/status | cut -f2; ls / | wc -l; sort /etc/hosts 2>/dev/null; \
         (sleep 0.01; date) > /dev/null; echo done | tr a-z A-Z",
    )
    .set("/linux/seccomp", profile)
    .run()
    .success();
    assert!(output.starts_with("2\n"), "{output}");
    assert!(output.ends_with("DONE\n"), "{output}");
}

#[test]
fn the_default_profile_forbids_namespaces_even_to_the_privileged() {
    if !can_run() {
        return;
    }
    let profile = to_value(runtime::default_seccomp(&Capabilities::new())).unwrap();
    let all = json!(["CAP_SYS_ADMIN"]);
    let capabilities = json!({ "bounding": all, "permitted": all, "effective": all });
    let script = "unshare -m true 2>/dev/null && echo made || echo refused";
    let free = Container::new(script).set("/process/capabilities", capabilities.clone());
    assert_eq!(free.run().success(), "made\n");
    let filtered = Container::new(script)
        .set("/process/capabilities", capabilities)
        .set("/linux/seccomp", profile);
    assert_eq!(filtered.run().success(), "refused\n");
}

#[test]
fn an_action_returns_its_error_number_where_its_arguments_match() {
    if !can_run() {
        return;
    }
    // mkdir -m makes the directory by mkdir(2) with that mode.
    let script = "mkdir -m 700 /tmp/a; mkdir -m 711 /tmp/b; ls /tmp";
    for no_new_privileges in [true, false] {
        let output = Container::new(script)
            .set("/process/noNewPrivileges", json!(no_new_privileges))
            .set(
                "/linux/seccomp",
                json!({
                    "defaultAction": "SCMP_ACT_ALLOW",
                    "syscalls": [{
                        "names": ["mkdir", "no_such_call"],
                        "action": "SCMP_ACT_ERRNO",
                        "errnoRet": 28,
                        "args": [{ "index": 1, "value": 0o711, "op": "SCMP_CMP_EQ" }],
                    }],
                }),
            )
            .run()
            .success();
        assert!(
            output.contains("'/tmp/b': No space left on device"),
            "{output}"
        );
        assert!(output.ends_with("\na\n"), "{output}");
    }
}

#[test]
fn a_killing_action_kills() {
    if !can_run() {
        return;
    }
    let outcome = Container::new("")
        .set("/process/args", json!(["uname"]))
        .set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "syscalls": [{ "names": ["uname"], "action": "SCMP_ACT_KILL_PROCESS" }],
            }),
        )
        .run();
    let signal = nix::sys::signal::Signal::SIGSYS;
    assert!(
        matches!(outcome.status, nix::sys::wait::WaitStatus::Signaled(_, killed, _) if killed == signal),
        "{outcome:?}"
    );
}

#[test]
fn an_agent_answers_calls_with_the_listener_that_it_was_given() {
    if !can_run() {
        return;
    }
    let (ours, theirs) = sockets();
    let container = Container::new("mkdir /tmp/x 2>&1 | grep -o Read-only; echo done")
        .set("/annotations", json!({ "k": "v" }))
        .set(
            "/linux/seccomp",
            json!({
                "defaultAction": "SCMP_ACT_ALLOW",
                "listenerPath": "/run/agent.sock",
                "listenerMetadata": "for the agent",
                "syscalls": [{ "names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_NOTIFY" }],
            }),
        );
    let created = Created::with_sockets(container, None, Some(theirs.as_fd()));
    assert_eq!(next(&created.started.setup), Setup::Created);
    // It comes at the creation: an agent may do what it needs before the start.
    let (message, listener) = receive(&ours);
    assert_eq!(next(&created.start()), Setup::Executed);
    let message: serde_json::Value = serde_json::from_str(&message).unwrap();
    assert_eq!(message["fds"], json!(["seccompFd"]));
    assert_eq!(message["pid"], created.started.pid.as_raw());
    assert_eq!(message["metadata"], "for the agent");
    assert_eq!(message["state"]["id"], "one");
    assert_eq!(message["state"]["pid"], created.started.pid.as_raw());
    assert_eq!(message["state"]["annotations"]["k"], "v");
    refuse_call(&listener, nix::errno::Errno::EROFS as i32);
    let (_, output) = created.end();
    assert_eq!(output, "Read-only\ndone\n");
}
