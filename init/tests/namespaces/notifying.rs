//! What services say of themselves, and what they leave with PID 1.

use std::time::Duration;

use control::{Request, ServiceState};
use nix::sys::signal::Signal;

use crate::pid1::{Pid1, service, until};

/// PID 1's own descriptors for one service, at the most.
const OF_A_SERVICE: usize = 16;

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

/// Hostile: A service sends TCP sockets that linger for an hour over its notification socket. Outcome: Children of PID 1 close them; PID 1 answers as before.
pub fn sockets_that_linger_do_not_hold_pid_1_up() {
    let mut pid1 = Pid1::boot(&[]);
    // It stays, and does not read what the sockets have sent.
    let steps = [
        "block SIGUSR1",
        "notify READY=1",
        "until SIGUSR1",
        "send-lingering 5",
        "append /run/shared/sent all",
        "notify STATUS=sent",
        "forever",
    ];
    let keys = "ready = \"notify\"\nnamespaces = { network = \"host\" }\n\
                mounts = [{ source = \"/run/wherry/shared\", target = \"/run/shared\" }]";
    std::fs::create_dir(pid1.path("/run/wherry/shared")).unwrap();
    pid1.define("web", &service(&steps, keys));
    let before = pid1.descriptors();
    pid1.reload();
    let line = pid1.wait_for_state("web", ServiceState::Ready);
    // While PID 1 stands still the sender closes its copies, so PID 1's are the
    // last ones.
    pid1.signal(Signal::SIGSTOP);
    pid1.send(line.pid.unwrap(), Signal::SIGUSR1);
    pid1.wait_for_text("/run/wherry/shared/sent", "all");
    pid1.signal(Signal::SIGCONT);
    assert!(pid1.answers_within(Duration::from_secs(20)));
    until("all is heard", || pid1.service("web").detail == "sent");
    until("everything is closed", || {
        pid1.descriptors() <= before + OF_A_SERVICE
    });
    assert!(pid1.answers_within(Duration::from_secs(20)));
}

/// Hostile: A service sends more descriptors than it may store, hundreds in one datagram. Outcome: All of them are closed, and a line of the log says so.
pub fn descriptors_that_may_not_be_stored_are_closed_and_told() {
    let mut pid1 = Pid1::boot(&[]);
    let steps = [
        "notify READY=1",
        "send-descriptors 17 STATUS=17",
        "send-descriptors 253 FDSTORE=1",
        "notify STATUS=sent",
        "forever",
    ];
    pid1.define("web", &service(&steps, NOTIFY));
    let before = pid1.descriptors();
    pid1.reload();
    until("all is sent", || pid1.service("web").detail == "sent");
    until("everything is closed", || {
        pid1.descriptors() <= before + OF_A_SERVICE
    });
    assert_eq!(pid1.show("web").stored_descriptors, 0);
    pid1.wait_for_log("web: sent descriptors without FDSTORE=1; they are closed");
}

pub fn what_follows_a_long_status_is_heard_and_a_longer_one_is_told() {
    let mut pid1 = Pid1::boot(&[]);
    let steps = [
        "block SIGUSR1",
        "notify-long 5000 READY=1",
        "until SIGUSR1",
        "notify-long 50000 STATUS=unheard",
        "forever",
    ];
    pid1.define("web", &service(&steps, NOTIFY));
    pid1.reload();
    pid1.wait_for_state("web", ServiceState::Ready);
    let pid = pid1.service("web").pid.unwrap();
    pid1.send(pid, Signal::SIGUSR1);
    pid1.wait_for_log("web: a notification has more than 16384 bytes");
    assert_ne!(pid1.service("web").detail, "unheard");
}
