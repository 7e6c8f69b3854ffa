//! Services that misbehave: each is held by its policy, and the rest runs on.

use std::time::Instant;

use control::{Health, Request, ServiceState};

use crate::pid1::{Pid1, service, until};

const SHARED: &str = "mounts = [{ source = \"/run/wherry/shared\", target = \"/run/shared\" }]\n";

pub fn a_service_that_fails_is_started_again_after_a_growing_wait_until_its_limit() {
    let mut pid1 = Pid1::boot(&[]);
    let keys = "restart = { backoff = \"100ms..200ms\", limit = \"3/1m\" }\n";
    let begin = Instant::now();
    pid1.define(
        "exits",
        &service(
            &["append /run/shared/exits again", "exit 3"],
            &format!("{keys}{SHARED}"),
        ),
    );
    pid1.reload();
    let line = pid1.wait_for_state("exits", ServiceState::Failed);
    assert!(line.detail.contains("failed too often"), "{line:#?}");
    assert_eq!(pid1.read("/run/wherry/shared/exits"), "again\n".repeat(4));
    // 100, 200 and 200 ms, less the jitter.
    let taken = begin.elapsed().as_millis();
    assert!(taken >= 250, "{taken} ms");
    assert_eq!(
        pid1.show("exits").last_exit.as_deref(),
        Some("exited with 3")
    );
    assert_eq!(pid1.log().matches("it is started again").count(), 3);
    // The operator's word begins again.
    pid1.order(|service| Request::Start { service }, "exits");
    until("a fifth run", || {
        pid1.read("/run/wherry/shared/exits").lines().count() > 4
    });
}

pub fn a_service_that_is_not_ready_in_time_or_cannot_be_set_up_has_failed() {
    let mut pid1 = Pid1::boot(&[]);
    let never = "restart = { policy = \"never\" }\n";
    pid1.define(
        "never-ready",
        &service(
            &["forever"],
            &format!("ready = \"notify\"\nstart-timeout = \"500ms\"\n{never}"),
        ),
    );
    pid1.define(
        "missing-source",
        &service(
            &["forever"],
            &format!("{never}mounts = [{{ source = \"/nowhere\", target = \"/tmp/x\" }}]"),
        ),
    );
    pid1.define(
        "missing-program",
        &service(&["forever"], never).replace("\"/program\"", "\"/no/such/program\""),
    );
    pid1.define(
        "missing-device",
        &service(
            &["forever"],
            &format!("{never}devices = [\"/dev/nothing\"]"),
        ),
    );
    pid1.reload();
    for (name, words) in [
        ("never-ready", "not ready in time"),
        ("missing-source", "/nowhere"),
        ("missing-program", "/no/such/program"),
        ("missing-device", "/dev/nothing"),
    ] {
        let line = pid1.wait_for_state(name, ServiceState::Failed);
        assert!(line.detail.contains(words), "{line:#?}");
        assert_eq!(line.pid, None);
    }
}

pub fn a_service_that_does_not_stop_is_killed() {
    let mut pid1 = Pid1::boot(&[]);
    let stop = |time: &str| format!("stop = {{ timeout = \"{time}\" }}");
    pid1.define(
        "stubborn",
        &service(
            &["block SIGTERM", "notify STATUS=blocked", "forever"],
            &stop("500ms"),
        ),
    );
    // No handler: the signal would never reach it, so nobody waits.
    pid1.define("deaf", &service(&["forever"], &stop("1h")));
    pid1.define(
        "gentle",
        &service(
            &[
                "block SIGTERM",
                "notify STATUS=waiting",
                "until SIGTERM",
                "exit 5",
            ],
            &stop("1h"),
        ),
    );
    pid1.reload();
    until("it blocks", || pid1.service("stubborn").detail == "blocked");
    for name in ["stubborn", "deaf", "gentle"] {
        pid1.wait_for_state(name, ServiceState::Ready);
    }
    until("it waits", || pid1.service("gentle").detail == "waiting");
    let begin = Instant::now();
    for (name, exit) in [
        ("stubborn", "killed by SIGKILL"),
        ("deaf", "killed by SIGKILL"),
        ("gentle", "exited with 5"),
    ] {
        pid1.order(|service| Request::Stop { service }, name);
        pid1.wait_for_state(name, ServiceState::Stopped);
        assert_eq!(pid1.show(name).last_exit.as_deref(), Some(exit), "{name}");
    }
    let taken = begin.elapsed().as_millis();
    assert!((500..20_000).contains(&taken), "{taken} ms");
}

pub fn a_stopped_service_hears_its_stop_signal_and_a_real_time_one_is_sent() {
    let mut pid1 = Pid1::boot(&[]);
    let keys = "stop = { timeout = \"1h\" }";
    let steps = [
        "block SIGTERM",
        "notify STATUS=waiting",
        "until SIGTERM",
        "exit 5",
    ];
    pid1.define("web", &service(&steps, keys));
    // No handler: the signal ends it, as the kernel would outside a container.
    let keys = "stop = { signal = \"SIGRTMIN+3\", timeout = \"1h\" }";
    pid1.define("deaf", &service(&["forever"], keys));
    pid1.reload();
    until("it waits", || pid1.service("web").detail == "waiting");
    let pid = pid1.service("web").pid.unwrap();
    pid1.send(pid, nix::sys::signal::Signal::SIGSTOP);
    pid1.wait_for_state("deaf", ServiceState::Ready);
    for name in ["web", "deaf"] {
        pid1.order(|service| Request::Stop { service }, name);
        pid1.wait_for_state(name, ServiceState::Stopped);
    }
    let exit = pid1.show("web").last_exit;
    assert_eq!(exit.as_deref(), Some("exited with 5"));
}

pub fn a_service_whose_probe_fails_is_unhealthy_and_started_again() {
    let mut pid1 = Pid1::boot(&[]);
    let health = "health = { command = [\"/program\", \"exit-if /run/shared/ill 1\"], interval = \"50ms\", timeout = \"5s\", retries = 2 }\n";
    pid1.define("web", &service(&["forever"], &format!("{health}{SHARED}")));
    pid1.reload();
    until("healthy", || pid1.service("web").health == Health::Healthy);
    let before = pid1.service("web");
    assert_eq!(before.restarts, 0);
    std::fs::write(pid1.path("/run/wherry/shared/ill"), "").unwrap();
    until("started again", || pid1.service("web").restarts > 0);
    std::fs::remove_file(pid1.path("/run/wherry/shared/ill")).unwrap();
    pid1.wait_for_state("web", ServiceState::Ready);
    until("healthy again", || {
        pid1.service("web").health == Health::Healthy
    });
    assert_ne!(pid1.service("web").pid, before.pid);
}

pub fn what_a_container_leaves_behind_ends_with_its_first_process() {
    let mut pid1 = Pid1::boot(&[]);
    // In PID 1's pid namespace nothing else would end them.
    let keys = "namespaces = { pid = \"host\" }\nrestart = { policy = \"never\" }";
    pid1.define("web", &service(&["leave 5", "exit 4"], keys));
    pid1.reload();
    pid1.wait_for_state("web", ServiceState::Failed);
    // PID 1 and the process that waits outside are left.
    until("the rest is gone", || pid1.processes().len() == 2);
    assert_eq!(pid1.zombies(), 0);
}

pub fn ten_thousand_orphans_are_reaped_while_the_machine_answers() {
    let mut pid1 = Pid1::boot(&[]);
    let keys =
        "namespaces = { pid = \"host\" }\nready = \"exit\"\nrestart = { policy = \"never\" }";
    pid1.define("orphans", &service(&["orphans 10000"], keys));
    pid1.reload();
    let mut slowest = 0;
    while pid1.service("orphans").state != ServiceState::Ended {
        let begin = Instant::now();
        pid1.status();
        slowest = slowest.max(begin.elapsed().as_millis());
        assert_ne!(pid1.service("orphans").state, ServiceState::Failed);
    }
    assert!(slowest < 5000, "{slowest} ms for an answer");
    until("all are reaped", || pid1.zombies() == 0);
    assert!(pid1.log().contains("orphans: ended"));
}
