//! The end: in order, in bounded time, however it is asked for.

use std::time::{Duration, Instant};

use control::{Refusal, Request, ServiceState};
use nix::sys::signal::Signal;

use crate::pid1::{End, Pid1, service};

const STEPS: [&str; 2] = ["until SIGTERM", "say bye"];

pub fn services_stop_before_what_they_require_and_the_one_with_the_role_log_last() {
    let mut pid1 = Pid1::boot(&[
        (
            "outputs",
            service(
                &["block SIGTERM", "collect"],
                "role = \"log\"\nready = \"notify\"\nstop = { timeout = \"200ms\" }\nmounts = [{ source = \"/run/wherry/output\", target = \"/run/output\" }]",
            ),
        ),
        ("one", service(&STEPS, "")),
        ("two", service(&STEPS, "requires = [\"one\"]")),
        ("three", service(&STEPS, "requires = [\"two\"]")),
    ]);
    pid1.ask(&Request::Poweroff);
    assert_eq!(pid1.end(), End::Poweroff);
    let log = pid1.log();
    let at = |text: &str| {
        log.find(text)
            .unwrap_or_else(|| panic!("no '{text}': {log}"))
    };
    for pair in ["three", "two", "one", "outputs"].windows(2) {
        let (first, then) = (pair[0], pair[1]);
        assert!(
            at(&format!("{first}: stopped")) < at(&format!("{then}: stopped")),
            "{first} before {then}: {log}"
        );
    }
    assert!(at("outputs: stopped") < at("the services are stopped"));
    assert!(at("the services are stopped") < at("powering off"));
    assert!(pid1.console().contains("wherry: powering off"));
}

pub fn every_way_to_ask_for_the_end_is_heard() {
    type Ask = fn(&Pid1);
    let ways: [(Ask, End); 6] = [
        (|pid1| drop(pid1.ask(&Request::Reboot)), End::Restart),
        (|pid1| drop(pid1.ask(&Request::Poweroff)), End::Poweroff),
        (|pid1| drop(pid1.ask(&Request::Halt)), End::Poweroff),
        (|pid1| pid1.signal(Signal::SIGINT), End::Restart),
        (|pid1| pid1.signal(Signal::SIGUSR2), End::Poweroff),
        (|pid1| pid1.signal(Signal::SIGPWR), End::Poweroff),
    ];
    for (ask, end) in ways {
        let mut pid1 = Pid1::boot(&[("web", service(&STEPS, ""))]);
        ask(&pid1);
        assert_eq!(pid1.end(), end);
        assert!(pid1.log().contains("web: stopped"));
    }
}

pub fn nothing_is_started_any_more_once_the_machine_ends() {
    let mut pid1 = Pid1::boot(&[
        (
            "slow",
            service(
                &["block SIGTERM", "notify READY=1", "forever"],
                "ready = \"notify\"\nstop = { timeout = \"2s\" }",
            ),
        ),
        ("idle", service(&["forever"], "enabled = false")),
    ]);
    pid1.ask(&Request::Poweroff);
    let start = Request::Start {
        service: "idle".to_owned(),
    };
    assert_eq!(pid1.refused(&start), Refusal::ShuttingDown);
    assert_eq!(pid1.service("slow").state, ServiceState::Stopping);
    assert_eq!(pid1.end(), End::Poweroff);
    assert!(!pid1.log().contains("idle: starting"));
}

pub fn the_machine_ends_in_bounded_time_with_services_that_will_not_stop() {
    let stuck = |requires: &str| {
        service(
            &["block SIGTERM", "notify READY=1", "forever"],
            &format!("ready = \"notify\"\nstop = {{ timeout = \"1h\" }}\n{requires}"),
        )
    };
    let mut pid1 = Pid1::boot(&[
        ("stuck-one", stuck("")),
        ("stuck-two", stuck("requires = [\"stuck-one\"]")),
    ]);
    pid1.wait_for_state("stuck-two", ServiceState::Ready);
    let begin = Instant::now();
    pid1.ask(&Request::Poweroff);
    pid1.wait_for_console("waiting for the end of stuck-one (");
    pid1.wait_for_console("stuck-two (");
    assert_eq!(pid1.end(), End::Poweroff);
    // 60 s for all services together, 20 s for the disks.
    let taken = begin.elapsed();
    assert!(
        (Duration::from_secs(55)..Duration::from_secs(85)).contains(&taken),
        "{taken:?}"
    );
}
