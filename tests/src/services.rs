//! The services of the image, and limits that need every cgroup controller. The
//! rest is in `init/tests`.

use std::time::Duration;

use machine::Machine;
use tempfile::TempDir;

use crate::operator::{
    COMMAND, build, json, power_off, put_service, restored, run, service, settled, state_of,
    status, wait_for_state,
};

const SLEEP: &str = "while :; do sleep 1; done";

#[test]
fn every_service_of_the_image_runs_in_a_container_and_an_operators_service_beside_them() {
    let build = build();
    let folder = TempDir::with_prefix("wherry-services-").unwrap();
    let disk = folder.path().join("disk.raw");
    let mut machine = restored(Machine::builder(&build, "services-own").disk(&disk));
    let before = status(&mut machine);
    assert_eq!(before["machine"]["phase"], "ready", "{before:#}");
    for (name, state) in [
        ("log", "ready"),
        ("network", "ready"),
        ("console", "ready"),
        ("state", "ended"),
    ] {
        assert_eq!(service(&before, name)["state"], state, "{before:#}");
    }
    put_service(
        &mut machine,
        "own",
        "",
        &format!("echo hello from own; id; ls /; {SLEEP}"),
    );
    run(&mut machine, "wherry service reload");
    wait_for_state(&mut machine, "own", "ready");
    let log = run(&mut machine, "sleep 1; wherry logs --service own");
    assert!(log.contains("hello from own"), "{log}");
    let detail = json(&mut machine, "wherry service show own --json");
    let pid = detail["service"]["pid"].as_u64().unwrap();
    // Its own pid namespace, root and network, no capability, seccomp on.
    let process = run(
        &mut machine,
        &format!(
            "cat /proc/{pid}/status; readlink /proc/{pid}/ns/net /proc/1/ns/net; cat /proc/{pid}/net/dev"
        ),
    );
    assert!(process.contains("CapBnd:\t0000000000000000"), "{process}");
    assert!(process.contains("Seccomp:\t2"), "{process}");
    assert!(process.contains("NoNewPrivs:\t1"), "{process}");
    assert!(process.contains(&format!("NSpid:\t{pid}\t1")), "{process}");
    assert!(!process.contains("eth0"), "{process}");
    power_off(machine);

    // It comes back at the next boot, and its earlier lines are still there.
    let mut machine = settled(Machine::builder(&build, "services-own-next").disk(&disk));
    wait_for_state(&mut machine, "own", "ready");
    for boot in ["-1", "0"] {
        let log = run(
            &mut machine,
            &format!("sleep 1; wherry logs -b {boot} --service own"),
        );
        assert_eq!(log.matches("hello from own").count(), 1, "{boot}: {log}");
    }
    power_off(machine);
}

#[test]
fn a_fork_bomb_and_a_memory_eater_stay_within_their_limits() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "services-limits"));
    let log_before = status(&mut machine);
    put_service(
        &mut machine,
        "bomb",
        "limits = { pids = 32, cpu = \"20%\" }\nrestart = { policy = \"never\" }",
        "f() { f | f & }; f; sleep 1000; :",
    );
    put_service(
        &mut machine,
        "eater",
        "limits = { memory = \"16M\" }\nrestart = { policy = \"never\" }",
        "exec tail /dev/zero",
    );
    run(&mut machine, "wherry service reload");
    wait_for_state(&mut machine, "eater", "failed");
    let now = status(&mut machine);
    let eater = service(&now, "eater")["detail"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(eater.contains("ran out of memory"), "{eater}");
    // The bomb went off, and its limit holds.
    run(
        &mut machine,
        "( i=0; until wherry logs --service bomb | grep -q \"can't fork\"; do \
         i=$((i+1)); [ $i -lt 60 ] || exit 1; sleep 0.5; done )",
    );
    let bomb = json(&mut machine, "wherry service show bomb --json");
    let tasks = bomb["tasks"].as_u64();
    assert!(
        tasks.is_some_and(|tasks| (1..=32).contains(&tasks)),
        "{bomb:#}"
    );
    // The rest lives, in the same runs as before.
    for name in ["log", "network", "console"] {
        assert_eq!(
            service(&now, name)["pid"],
            service(&log_before, name)["pid"],
            "{now:#}"
        );
        assert_eq!(service(&now, name)["state"], "ready");
    }
    run(&mut machine, "wherry service stop bomb");
    power_off(machine);
}

#[test]
fn the_log_loses_no_line_when_it_is_killed() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "services-log"));
    put_service(
        &mut machine,
        "counter",
        "",
        "i=0; while [ $i -lt 3000 ]; do i=$((i+1)); echo line $i; done; sleep 1000; :",
    );
    run(&mut machine, "wherry service reload");
    for _ in 0..3 {
        let pid = json(&mut machine, "wherry service show log --json")["service"]["pid"].clone();
        run(&mut machine, &format!("kill -9 {pid}; sleep 0.3"));
        wait_for_state(&mut machine, "log", "ready");
    }
    run(&mut machine, "wherry service restart log");
    // Each line once: what was stored and not yet taken out of the pipe when
    // the log service was killed is not stored again.
    let lines = machine
        .shell(
            "sleep 5; wherry logs --service counter | grep -o 'line [0-9]*' | sort | uniq -c \
             | awk '{ n += $1; d += 1 } END { print n, d }'",
            COMMAND + Duration::from_secs(60),
        )
        .unwrap();
    assert_eq!(lines.text.trim(), "3000 3000");
    assert_eq!(state_of(&mut machine, "counter"), "ready");
    power_off(machine);
}
