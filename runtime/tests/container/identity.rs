//! Who the program is and what it may do.

use std::fs;

use serde_json::json;

use crate::harness::{Container, can_run};

const SETS: &str = "grep -E '^Cap' /proc/self/status | cut -f2";
const KILL: &str = "0000000000000020";
const NONE: &str = "0000000000000000";

#[test]
fn user_groups_and_umask_are_as_asked() {
    if !can_run() {
        return;
    }
    let output = Container::new("id -u; id -g; id -G; umask")
        .set(
            "/process/user",
            json!({ "uid": 1234, "gid": 5678, "additionalGids": [7, 9], "umask": 0o027 }),
        )
        .run()
        .success();
    assert_eq!(output, "1234\n5678\n5678 7 9\n0027\n");
}

#[test]
fn without_capabilities_even_root_has_none() {
    if !can_run() {
        return;
    }
    let output = Container::new(SETS).run().success();
    assert_eq!(output.lines().collect::<Vec<_>>(), [NONE; 5]);
}

#[test]
fn each_capability_set_is_as_asked() {
    if !can_run() {
        return;
    }
    // Inheritable, permitted, effective, bounding, ambient.
    let kill = json!(["CAP_KILL"]);
    for (capabilities, uid, expected) in [
        (
            json!({ "bounding": kill, "permitted": kill, "effective": kill }),
            0,
            [NONE, KILL, KILL, KILL, NONE],
        ),
        // Another user's execve keeps only what is ambient.
        (
            json!({ "bounding": kill, "permitted": kill, "effective": kill }),
            1000,
            [NONE, NONE, NONE, KILL, NONE],
        ),
        (
            json!({ "bounding": kill, "permitted": kill, "effective": kill, "inheritable": kill, "ambient": kill }),
            1000,
            [KILL, KILL, KILL, KILL, KILL],
        ),
    ] {
        let output = Container::new(SETS)
            .set("/process/capabilities", capabilities)
            .set("/process/user/uid", json!(uid))
            .run()
            .success();
        assert_eq!(output.lines().collect::<Vec<_>>(), expected);
    }
}

#[test]
fn new_privileges_are_forbidden_where_asked() {
    if !can_run() {
        return;
    }
    for (asked, expected) in [(true, "1\n"), (false, "0\n")] {
        let output = Container::new("grep NoNewPrivs /proc/self/status | cut -f2")
            .set("/process/noNewPrivileges", json!(asked))
            .run()
            .success();
        assert_eq!(output, expected);
    }
}

#[test]
fn limits_and_the_oom_score_are_as_asked() {
    if !can_run() {
        return;
    }
    let output = Container::new("ulimit -Sn; ulimit -Hn; ulimit -c; cat /proc/self/oom_score_adj")
        .set(
            "/process/rlimits",
            json!([
                { "type": "RLIMIT_NOFILE", "soft": 100, "hard": 200 },
                { "type": "RLIMIT_CORE", "soft": 0, "hard": 0 },
            ]),
        )
        .set("/process/oomScoreAdj", json!(321))
        .run()
        .success();
    assert_eq!(output, "100\n200\n0\n321\n");
}

#[test]
fn the_program_runs_in_its_working_directory() {
    if !can_run() {
        return;
    }
    let output = Container::new("pwd")
        .set("/process/cwd", json!("/usr/bin"))
        .run()
        .success();
    assert_eq!(output, "/usr/bin\n");
}

#[test]
fn the_environment_is_that_of_the_specification_only() {
    if !can_run() {
        return;
    }
    let output = Container::new("")
        .set("/process/args", json!(["env"]))
        .set("/process/env", json!(["B=2", "PATH=/usr/bin", "A=1=1"]))
        .run()
        .success();
    assert_eq!(output, "A=1=1\nB=2\nPATH=/usr/bin\n");
}

#[test]
fn this_process_keeps_what_it_had() {
    if !can_run() {
        return;
    }
    let status = || fs::read_to_string("/proc/thread-self/status").unwrap();
    let pick = |status: String| {
        let lines = status.lines().filter(|line| {
            ["Cap", "Uid", "Gid", "NoNew", "Seccomp:"]
                .iter()
                .any(|name| line.starts_with(name))
        });
        lines.map(String::from).collect::<Vec<_>>()
    };
    let before = pick(status());
    Container::new("true").run().success();
    assert_eq!(pick(status()), before);
}
