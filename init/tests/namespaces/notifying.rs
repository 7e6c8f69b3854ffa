//! What services say of themselves, and what they leave with PID 1.

use std::time::Duration;

use control::{Request, ServiceState};
use nix::sys::signal::Signal;

use crate::pid1::{Pid1, service, until};

const NOTIFY: &str = "ready = \"notify\"\n";

pub fn who_requires_a_service_waits_until_it_says_that_it_is_ready() {
    let mut pid1 = Pid1::boot(&[]);
    let steps = [
        "notify STATUS=warming up",
        "until SIGUSR1",
        "notify READY=1;STATUS=up",
        "forever",
    ];
    pid1.define("web", &service(&steps, NOTIFY));
    pid1.define("late", &service(&["forever"], "requires = [\"web\"]"));
    pid1.reload();
    until("the status", || pid1.service("web").detail == "warming up");
    assert_eq!(pid1.service("web").state, ServiceState::Starting);
    assert_eq!(pid1.service("late").state, ServiceState::Waiting);
    let pid = pid1.service("web").pid.unwrap();
    pid1.send(pid, Signal::SIGUSR1);
    pid1.wait_for_state("late", ServiceState::Ready);
    assert_eq!(pid1.service("web").detail, "up");
}

pub fn a_watching_client_hears_of_each_change() {
    let pid1 = Pid1::boot(&[("web", service(&["forever"], ""))]);
    let mut watcher = pid1.client();
    watcher.watch().unwrap();
    let mut next = || {
        let change = watcher.next_change(Some(Duration::from_secs(20))).unwrap();
        change.unwrap_or_else(|| panic!("no change"))
    };
    // First everything as it is.
    let mut names = [next().name, next().name];
    names.sort();
    assert_eq!(names, ["state", "web"]);
    pid1.order(|service| Request::Stop { service }, "web");
    let mut states = Vec::new();
    while states.last() != Some(&ServiceState::Stopped) {
        let change = next();
        assert_eq!(change.name, "web");
        states.push(change.state);
    }
    assert_eq!(states[0], ServiceState::Stopping);
}

pub fn a_flood_of_notifications_means_nothing_and_holds_nobody_up() {
    let pid1 = Pid1::boot(&[]);
    let steps = [
        "notify READY=1",
        "notify-garbage 10000",
        "notify STATUS=done",
        "forever",
    ];
    pid1.define("flood", &service(&steps, NOTIFY));
    let store = ["notify READY=1", "forever"];
    pid1.define("web", &service(&store, NOTIFY));
    pid1.reload();
    until("all is sent", || pid1.service("flood").detail == "done");
    let flood = pid1.show("flood");
    assert_eq!(flood.service.state, ServiceState::Ready);
    assert_eq!(flood.service.restarts, 0);
    assert_eq!(flood.stored_descriptors, 0);
    assert_eq!(pid1.service("web").state, ServiceState::Ready);
}

pub fn a_stored_descriptor_comes_back_with_the_next_run_and_the_limit_holds() {
    let mut pid1 = Pid1::boot(&[]);
    let steps = [
        "exit-if-stored first 7",
        "store first",
        "store second",
        "store third",
        "notify READY=1",
        "forever",
    ];
    pid1.define(
        "web",
        &service(&steps, "ready = \"notify\"\nstored-descriptors = 2"),
    );
    pid1.reload();
    pid1.wait_for_state("web", ServiceState::Ready);
    assert_eq!(pid1.show("web").stored_descriptors, 2);
    pid1.wait_for_log("web: may store 2 descriptors and has");
    let pid = pid1.service("web").pid.unwrap();
    pid1.kill(pid);
    // The next run finds the first and says so by its exit.
    until("the next run's exit", || {
        pid1.show("web").last_exit.as_deref() == Some("exited with 7")
    });
}

pub fn a_service_that_misses_its_watchdog_is_restarted() {
    let mut pid1 = Pid1::boot(&[]);
    let steps = [
        "notify READY=1",
        "sleep 100",
        "notify WATCHDOG=1",
        "sleep 100",
        "notify WATCHDOG=1",
        "forever",
    ];
    let keys = "ready = \"notify\"\nwatchdog = \"1s\"\nrestart = { backoff = \"1h..1h\" }";
    pid1.define("web", &service(&steps, keys));
    pid1.reload();
    pid1.wait_for_state("web", ServiceState::Ready);
    let line = pid1.wait_for_state("web", ServiceState::Backoff);
    assert!(line.detail.contains("no sign of life"), "{line:#?}");
}
