use crate::machine::*;
use std::time::Duration;
use supervisor::{Exit, Failure, Health, Notice, Policy, Ready, State};

fn probed(policy: Policy) -> Policy {
    Policy {
        health: Some(Health {
            interval: secs(30),
            timeout: secs(5),
            retries: 3,
        }),
        ..policy
    }
}

#[test]
fn a_service_is_probed_at_its_interval() {
    let mut machine = Machine::running([("a", probed(daemon("")))]);
    machine.passes(secs(30));
    assert_eq!(machine.done(), "probe a");
    machine.passes(secs(1));
    machine.probed("a", true);
    machine.passes(secs(29));
    assert_eq!(machine.done(), "");
    machine.passes(secs(1));
    assert_eq!(machine.done(), "probe a");
}

#[test]
fn a_service_that_is_ready_by_its_health_is_probed_as_soon_as_it_runs() {
    let by_health = Policy {
        ready: Ready::Health,
        ..probed(daemon(""))
    };
    let mut machine = Machine::with([("a", by_health)]);
    assert_eq!(machine.done(), "");
    machine.executed("a");
    assert_eq!(machine.done(), "probe a");
    // Not ready yet is no failure, and is asked about soon again.
    machine.probed("a", false);
    machine.passes(Duration::from_millis(500));
    assert_eq!(machine.done(), "probe a");
    machine.probed("a", true);
    assert_eq!(machine.state("a"), State::Ready);
}

#[test]
fn ready_by_health_without_a_probe_means_started() {
    let by_health = Policy {
        ready: Ready::Health,
        ..daemon("")
    };
    let mut machine = Machine::with([("a", by_health)]);
    machine.executed("a");
    assert_eq!(machine.state("a"), State::Ready);
}

#[test]
fn failed_probes_in_a_row_restart_the_service() {
    let mut machine = Machine::running([("a", probed(daemon("")))]);
    for answer in [false, false, true, false, false, false] {
        assert_eq!(machine.state("a"), State::Ready);
        machine.passes(secs(30));
        machine.probed("a", answer);
    }
    assert_eq!(machine.done(), "terminate a");
    machine.ends("a", Exit::Code(0));
    let a = machine.service("a");
    assert_eq!(a.failure(), Some(&Failure::Unhealthy));
    assert!(matches!(a.state(), State::Backoff { .. }));
}

#[test]
fn a_probe_that_takes_too_long_is_cancelled_and_has_failed() {
    let mut machine = Machine::running([("a", probed(daemon("")))]);
    machine.passes(secs(30));
    machine.passes(secs(5));
    assert_eq!(machine.done(), "cancel a");
    let a = machine.service("a");
    assert_eq!(a.healthy(), Some(false));
}

#[test]
fn the_end_of_a_run_cancels_its_probe() {
    let mut machine = Machine::running([("a", probed(daemon("")))]);
    machine.passes(secs(30));
    machine.exits("a", 1);
    assert_eq!(machine.done(), "cancel a");
}

#[test]
fn silence_longer_than_the_watchdog_restarts_the_service() {
    let watched = Policy {
        watchdog: Some(secs(10)),
        ..notifying("")
    };
    let mut machine = Machine::with([("a", watched)]);
    machine.passes(secs(20));
    assert_eq!(machine.state("a"), State::Starting);
    machine.notifies("a", Notice::Ready);
    machine.passes(secs(9));
    machine.notifies("a", Notice::Watchdog);
    machine.passes(secs(9));
    assert_eq!(machine.state("a"), State::Ready);
    machine.passes(secs(1));
    assert_eq!(machine.done(), "terminate a");
    machine.ends("a", Exit::Signal(15));
    let a = machine.service("a");
    assert_eq!(a.failure(), Some(&Failure::Watchdog));
    assert!(matches!(a.state(), State::Backoff { .. }));
}

#[test]
fn zero_durations_do_not_make_it_tick_without_end() {
    let hasty = Policy {
        health: Some(Health {
            interval: secs(0),
            timeout: secs(0),
            retries: 100,
        }),
        ..daemon("")
    };
    let mut machine = Machine::running([("a", hasty)]);
    machine.passes(secs(1));
    for _ in 0..10 {
        let deadline = machine.supervisor.next_deadline().unwrap();
        assert!(deadline > machine.now);
        machine.passes(deadline - machine.now);
    }
}

#[test]
fn an_answer_that_nobody_asked_for_is_ignored() {
    let mut machine = Machine::running([("a", probed(daemon("")))]);
    for _ in 0..3 {
        machine.probed("a", false);
        assert_eq!(machine.actions, []);
    }
    assert_eq!(machine.service("a").healthy(), None);
}
