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
fn the_environment_is_that_of_the_specification_in_its_order() {
    if !can_run() {
        return;
    }
    let output = Container::new("")
        .set("/process/args", json!(["env"]))
        .set(
            "/process/env",
            json!(["B=1", "PATH=/usr/bin", "HOME=/home", "A=1=1", "B=2"]),
        )
        .run()
        .success();
    assert_eq!(output, "B=2\nPATH=/usr/bin\nHOME=/home\nA=1=1\n");
}

#[test]
fn without_a_home_it_is_the_users_of_the_containers_passwd() {
    if !can_run() {
        return;
    }
    for (uid, expected) in [(1000, "/home/me\n"), (0, "/root\n"), (7, "/\n")] {
        let container = Container::new("echo $HOME").set("/process/user/uid", json!(uid));
        fs::write(
            container.root.path().join("etc/passwd"),
            "root:x:0:0::/root:\nme:x:1000:1::/home/me:/bin/sh\n",
        )
        .unwrap();
        assert_eq!(container.run().success(), expected);
    }
    // A FIFO there does not block anything.
    let container = Container::new("echo $HOME");
    crate::harness::make_node(
        &container.root.path().join("etc/passwd"),
        nix::sys::stat::SFlag::S_IFIFO,
        0,
    );
    assert_eq!(container.run().success(), "/\n");
}

#[test]
fn a_missing_working_directory_is_made_inside_the_root() {
    if !can_run() {
        return;
    }
    let container = Container::new("pwd -P; stat -c %a .").set("/process/cwd", json!("/a/../b/c"));
    std::os::unix::fs::symlink("/etc", container.root.path().join("b")).unwrap();
    assert_eq!(container.run().success(), "/etc/c\n755\n");
}

#[test]
fn priorities_and_scheduler_are_as_asked() {
    if !can_run() {
        return;
    }
    let output =
        Container::new("chrt -p $$ | cut -d: -f2; ionice -p $$; cut -d' ' -f19 /proc/$$/stat")
            .set(
                "/process/ioPriority",
                json!({ "class": "IOPRIO_CLASS_BE", "priority": 6 }),
            )
            .set(
                "/process/scheduler",
                json!({ "policy": "SCHED_BATCH", "nice": 7 }),
            )
            .run()
            .success();
    assert_eq!(output, " SCHED_BATCH\n 0\nbest-effort: prio 6\n7\n");
}

#[test]
fn the_personality_is_every_processs() {
    if !can_run() {
        return;
    }
    let mut running = Container::new("uname -m; echo up; sleep 60")
        .set("/linux/personality", json!({ "domain": "LINUX32" }))
        .start(&[], &[]);
    running.expect_line("up");
    assert_eq!(running.exec("uname -m").success(), "i686\n");
    running.cgroup.kill().unwrap();
    running.finish();
}

#[test]
fn a_further_process_runs_on_its_cpus_and_the_first_one_does_not() {
    if !can_run() {
        return;
    }
    let cpus = "grep Cpus_allowed_list /proc/self/status | cut -f2";
    let all = fs::read_to_string("/proc/thread-self/status").unwrap();
    let all = all
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:\t"))
        .unwrap();
    let affinity = json!({ "initial": "0", "final": "0" });
    let mut running = Container::new(&format!("{cpus}; echo up; sleep 60"))
        .set("/process/execCPUAffinity", affinity.clone())
        .start(&[], &[]);
    running.expect_line("up");
    let process = |affinity| {
        json!({
            "user": { "uid": 0, "gid": 0 },
            "args": ["sh", "-c", cpus],
            "env": ["PATH=/usr/bin:/bin"],
            "cwd": "/",
            "execCPUAffinity": affinity,
        })
    };
    let seen = running.exec_process(process(affinity)).success();
    let without = running.exec_process(process(json!(null))).success();
    let none = running
        .exec_process(process(json!({ "final": "8000" })))
        .failure();
    running.cgroup.kill().unwrap();
    running.finish();
    assert_eq!(seen, "0\n");
    assert_eq!(without.trim(), all);
    assert!(none.contains("process.execCPUAffinity.final"), "{none}");
}

#[test]
fn a_label_needs_its_security_module() {
    if !can_run() {
        return;
    }
    for (field, path) in [
        ("apparmorProfile", "/proc/self/attr/apparmor/exec"),
        ("selinuxLabel", "/sys/fs/selinux/enforce"),
    ] {
        if std::path::Path::new(path).exists() {
            requirement::skip(format!("{field} needs a kernel without {path}"));
            continue;
        }
        let message = Container::new("true")
            .set(&format!("/process/{field}"), json!("some:label"))
            .run()
            .failure();
        assert!(
            message.starts_with(&format!("setting process.{field}:")),
            "{message}"
        );
        assert!(message.contains("not supported"), "{message}");
    }
}

#[test]
fn a_capability_that_cannot_be_granted_is_left_out_and_named() {
    if !can_run() {
        return;
    }
    let container = Container::new(SETS).set(
        "/process/capabilities",
        json!({
            "bounding": ["CAP_KILL"], "permitted": ["CAP_KILL"],
            "effective": ["CAP_KILL", "CAP_CHOWN"], "ambient": ["CAP_KILL"],
        }),
    );
    let prepared = runtime::prepare(&container.spec()).unwrap();
    assert_eq!(
        prepared.ungranted_capabilities(),
        [
            "process.capabilities.effective: CAP_CHOWN",
            "process.capabilities.ambient: CAP_KILL",
        ]
    );
    let output = container.run().success();
    assert_eq!(
        output.lines().collect::<Vec<_>>(),
        [NONE, KILL, KILL, KILL, NONE]
    );
}

#[test]
fn another_user_can_open_its_standard_output_anew() {
    if !can_run() {
        return;
    }
    let output = Container::new("echo text > /dev/stdout; echo more > /proc/self/fd/2")
        .set("/process/user", json!({ "uid": 1000, "gid": 1000 }))
        .run()
        .success();
    assert_eq!(output, "text\nmore\n");
}

#[test]
fn landlock_denies_what_no_rule_allows() {
    if !can_run() {
        return;
    }
    let rules = |best: bool, abi: u32| {
        json!({ "wherry.landlock": json!({
            "abi": abi, "bestEffort": best,
            "paths": { "/usr": ["read"], "/lib": ["read"], "/lib64": ["read"], "/bin": ["read"],
                       "/proc": ["read"], "/dev/null": ["read", "write"], "/tmp": ["read", "write"] },
        }).to_string() })
    };
    let script = "echo x > /tmp/x && cat /tmp/x; cat /etc/secret 2>/dev/null || echo denied; touch /etc/y 2>/dev/null || echo refused";
    for (best, abi) in [(false, 1), (true, 1000)] {
        let container = Container::new(script)
            .set("/annotations", rules(best, abi))
            .set("/root/readonly", json!(false));
        fs::write(container.root.path().join("etc/secret"), "secret").unwrap();
        assert_eq!(container.run().success(), "x\ndenied\nrefused\n");
    }
    let mut running = Container::new("echo up; sleep 60")
        .set("/annotations", rules(false, 1))
        .start(&[], &[]);
    running.expect_line("up");
    assert_eq!(
        running.exec("ls /etc 2>/dev/null || echo denied").success(),
        "denied\n"
    );
    running.cgroup.kill().unwrap();
    running.finish();
    let message = Container::new("true")
        .set("/annotations", rules(false, 1000))
        .run()
        .failure();
    assert!(
        message.starts_with("enforcing annotations.wherry.landlock"),
        "{message}"
    );
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
