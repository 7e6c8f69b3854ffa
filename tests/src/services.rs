//! Services that are defined wrongly or behave badly: each is held where it
//! is, and everything else runs on.

use std::time::Duration;

use machine::Machine;
use tempfile::TempDir;

use crate::operator::{
    COMMAND, build, fail, json, power_off, put_definition, put_service, restored, run, service,
    settled, state_of, status, wait_for_state,
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
fn a_definition_with_a_mistake_is_named_with_its_place_and_the_others_run() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "services-mistakes"));
    put_service(&mut machine, "good", "", SLEEP);
    put_definition(&mut machine, "malformed", "description = \"x\"\n= what");
    put_service(&mut machine, "unknown-key", "priviledged = true", SLEEP);
    put_definition(
        &mut machine,
        "no-image",
        "description = \"x\"\ncommand = [\"/x\"]\nimage = \"nowhere\"",
    );
    put_service(&mut machine, "one", "requires = [\"two\"]", SLEEP);
    put_service(&mut machine, "two", "requires = [\"one\"]", SLEEP);
    put_service(&mut machine, "orphan", "requires = [\"nobody\"]", SLEEP);
    let told = run(&mut machine, "wherry service reload 2>&1");
    for words in [
        "/state/services/malformed/service.toml:2:",
        "/state/services/unknown-key/service.toml:4: unknown field `priviledged`",
        "/state/services/no-image/service.toml:3: key `image`: there is no image 'nowhere'",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    wait_for_state(&mut machine, "good", "ready");
    let now = status(&mut machine);
    for (name, state, words) in [
        ("malformed", "invalid", "malformed/service.toml:2"),
        ("unknown-key", "invalid", "priviledged"),
        ("no-image", "invalid", "nowhere"),
        ("one", "failed", "two"),
        ("two", "failed", "one"),
        (
            "orphan",
            "failed",
            "nobody, which it requires, is not defined",
        ),
        ("log", "ready", ""),
        ("network", "ready", ""),
    ] {
        let line = service(&now, name);
        assert_eq!(line["state"], state, "{line:#}");
        assert!(line["detail"].as_str().unwrap().contains(words), "{line:#}");
    }
    assert_eq!(now["machine"]["phase"], "degraded");
    // Mended, it starts.
    put_service(&mut machine, "unknown-key", "", SLEEP);
    run(&mut machine, "wherry service reload");
    wait_for_state(&mut machine, "unknown-key", "ready");
    // Its folder gone, it is forgotten.
    run(
        &mut machine,
        "rm -r /state/services/one && wherry service reload",
    );
    let list = run(&mut machine, "wherry service list");
    assert!(!list.contains("\none "), "{list}");
    let refused = fail(&mut machine, "wherry service start nothing 2>&1");
    assert!(refused.contains("no service 'nothing'"), "{refused}");
    power_off(machine);
}

#[test]
fn a_service_that_misbehaves_is_held_by_its_policy() {
    let build = build();
    let mut machine = restored(Machine::builder(&build, "services-misbehave"));
    put_service(
        &mut machine,
        "exits",
        "restart = { backoff = \"100ms..200ms\", limit = \"3/1m\" }",
        "echo once more; exit 3",
    );
    put_service(
        &mut machine,
        "never-ready",
        "ready = \"notify\"\nstart-timeout = \"2s\"\nrestart = { policy = \"never\" }",
        SLEEP,
    );
    put_service(
        &mut machine,
        "stubborn",
        "stop = { timeout = \"1s\" }",
        &format!("trap '' TERM; {SLEEP}"),
    );
    put_service(
        &mut machine,
        "deaf",
        "stop = { timeout = \"1h\" }",
        "sleep 1000; :",
    );
    put_service(
        &mut machine,
        "missing-program",
        "restart = { policy = \"never\" }\nmounts = [{ source = \"/nowhere\", target = \"/tmp/x\" }]",
        SLEEP,
    );
    run(&mut machine, "wherry service reload");
    wait_for_state(&mut machine, "exits", "failed");
    wait_for_state(&mut machine, "never-ready", "failed");
    wait_for_state(&mut machine, "missing-program", "failed");
    let now = status(&mut machine);
    for (name, words) in [
        ("exits", "failed too often"),
        ("never-ready", "not ready in time"),
        ("missing-program", "/nowhere"),
    ] {
        let line = service(&now, name);
        assert!(line["detail"].as_str().unwrap().contains(words), "{line:#}");
    }
    let lines = run(&mut machine, "wherry logs --service exits");
    assert_eq!(lines.matches("once more").count(), 4, "{lines}");
    for name in ["stubborn", "deaf"] {
        wait_for_state(&mut machine, name, "ready");
        run(&mut machine, &format!("wherry service stop {name}"));
        assert_eq!(state_of(&mut machine, name), "stopped");
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
    assert!(eater.contains("killed by signal 9"), "{eater}");
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
