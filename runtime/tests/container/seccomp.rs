//! Filters, as the kernel runs them.

use oci_spec::runtime::Capabilities;
use serde_json::{json, to_value};

use crate::harness::{Container, can_run};

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
