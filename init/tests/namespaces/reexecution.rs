//! A fresh PID 1 takes over: by request with everything kept, or after a crash.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use control::{Request, ServiceState};
use nix::sys::signal::Signal;

use crate::pid1::{End, Pid1, service, until};

const LOG: &str = "role = \"log\"\nready = \"notify\"\nmounts = [{ source = \"/run/wherry/output\", target = \"/run/output\" }]";

fn reexecute(pid1: &Pid1, count: u32) {
    pid1.ask(&Request::Reexec);
    until("the fresh PID 1 answers", || {
        pid1.try_ask(&Request::Status).is_ok() && pid1.status().machine.reexecuted == count
    });
}

pub fn a_fresh_pid_1_takes_over_and_no_service_notices() {
    let mut pid1 = Pid1::boot(&[
        ("log", service(&["collect"], LOG)),
        (
            "web",
            service(
                &["serve"],
                "sockets = [\"unix:/run/wherry/web.sock\"]\nenabled = false",
            ),
        ),
    ]);
    pid1.define(
        "ticker",
        &service(
            &["store kept", "notify READY=1;STATUS=ticking", "tick 20"],
            "ready = \"notify\"\nstored-descriptors = 1",
        ),
    );
    pid1.define("broken", "nonsense");
    pid1.reload();
    pid1.wait_for_state("ticker", ServiceState::Ready);
    until("the status", || pid1.service("ticker").detail == "ticking");
    let before = pid1.status();
    for count in 1..=3 {
        reexecute(&pid1, count);
    }
    let after = pid1.status();
    assert_eq!(after.services.len(), before.services.len());
    for (before, after) in before.services.iter().zip(&after.services) {
        assert_eq!(
            (
                &before.name,
                before.pid,
                before.state,
                &before.detail,
                before.since_us,
                before.operator
            ),
            (
                &after.name,
                after.pid,
                after.state,
                &after.detail,
                after.since_us,
                after.operator
            )
        );
    }
    assert_eq!(before.machine.degraded, after.machine.degraded);
    assert_eq!(before.machine.machine_id, after.machine.machine_id);
    assert_eq!(before.storage, after.storage);
    assert_eq!(pid1.show("ticker").stored_descriptors, 1);
    // Its output goes on: no line is lost, none comes twice.
    let ticks = pid1.wait_for_text("/run/wherry/output/ticker", "tick 30\n");
    for number in 1..=30 {
        let line = format!("tick {number}");
        assert_eq!(
            ticks.lines().filter(|each| *each == line).count(),
            1,
            "{ticks}"
        );
    }
    // Supervision goes on: what dies is started again, what is stopped stops,
    // and a client starts a service.
    pid1.kill(
        after
            .services
            .iter()
            .find(|line| line.name == "ticker")
            .unwrap()
            .pid
            .unwrap(),
    );
    until("it is started again", || {
        pid1.service("ticker").restarts == 1
    });
    pid1.wait_for_state("ticker", ServiceState::Ready);
    let mut client = UnixStream::connect(pid1.path("/run/wherry/web.sock")).unwrap();
    client
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    assert_eq!(text, "served\n");
    pid1.order(|service| Request::Stop { service }, "ticker");
    pid1.wait_for_state("ticker", ServiceState::Stopped);
    pid1.ask(&Request::Poweroff);
    assert_eq!(pid1.end(), End::Poweroff);
}

pub fn a_start_and_an_end_under_way_are_not_lost_by_the_change() {
    let mut pid1 = Pid1::boot(&[]);
    pid1.define(
        "starting",
        &service(
            &[
                "block SIGUSR1",
                "notify STATUS=waiting",
                "until SIGUSR1",
                "notify READY=1",
                "forever",
            ],
            "ready = \"notify\"",
        ),
    );
    pid1.define(
        "stopping",
        &service(
            &["block SIGTERM", "notify READY=1", "forever"],
            "ready = \"notify\"\nstop = { timeout = \"2s\" }",
        ),
    );
    pid1.define(
        "failing",
        &service(&["exit 1"], "restart = { backoff = \"2s..2s\" }"),
    );
    pid1.reload();
    until("it waits", || pid1.service("starting").detail == "waiting");
    pid1.wait_for_state("stopping", ServiceState::Ready);
    pid1.wait_for_state("failing", ServiceState::Backoff);
    pid1.order(|service| Request::Stop { service }, "stopping");
    reexecute(&pid1, 1);
    assert_eq!(pid1.service("stopping").state, ServiceState::Stopping);
    assert_eq!(pid1.service("starting").state, ServiceState::Starting);
    let pid = pid1.service("starting").pid.unwrap();
    pid1.send(pid, Signal::SIGUSR1);
    pid1.wait_for_state("starting", ServiceState::Ready);
    pid1.wait_for_state("stopping", ServiceState::Stopped);
    until("its next run", || pid1.service("failing").restarts > 0);
}

pub fn a_crash_of_pid_1_is_told_and_restarts_the_machine() {
    let mut pid1 = Pid1::boot(&[("web", service(&["forever"], ""))]);
    pid1.signal(Signal::SIGSEGV);
    pid1.wait_for_console("wherry: emergency: PID 1 failed: SIGSEGV");
    assert_eq!(pid1.end(), End::Restart);
}

pub fn a_crash_of_pid_1_leaves_the_services_running_where_that_is_asked_for() {
    let services = [
        ("log", service(&["collect"], LOG)),
        ("ticker", service(&["tick 20"], "")),
        (
            "orphans",
            service(
                &["until SIGUSR1", "orphans 200"],
                "namespaces = { pid = \"host\" }",
            ),
        ),
    ];
    let mut pid1 = Pid1::start("wherry.emergency=stay", &services);
    pid1.wait_for_console(" s (kernel ");
    let orphans = pid1.service("orphans").pid.unwrap();
    pid1.wait_for_text("/run/wherry/output/ticker", "tick 2\n");
    pid1.signal(Signal::SIGSEGV);
    pid1.wait_for_console("wherry: emergency");
    assert!(pid1.log().contains("PID 1 failed"));
    // The services go on, so does their log; PID 1 still reaps, and no longer answers.
    let text = pid1.read("/run/wherry/output/ticker");
    let next = format!("tick {}\n", text.lines().count() + 20);
    pid1.wait_for_text("/run/wherry/output/ticker", &next);
    pid1.send(orphans, Signal::SIGUSR1);
    until("they are reaped", || {
        pid1.zombies() == 0 && !pid1.path(&format!("/proc/{orphans}")).exists()
    });
    assert!(!pid1.answers_within(Duration::from_millis(300)));
    pid1.signal(Signal::SIGTERM);
    assert_eq!(pid1.end(), End::Restart);
}
