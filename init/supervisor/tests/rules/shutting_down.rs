use crate::machine::*;
use std::time::Duration;
use supervisor::{Event, Health, Notice, Policy, Restart, Shutdown, State};

fn shut_down(machine: &mut Machine) {
    machine.event(Event::Shutdown(Shutdown::Poweroff));
}

#[test]
fn all_stop_in_reverse_order_in_parallel_where_independent() {
    let mut machine = Machine::running([
        ("a", daemon("")),
        ("b", daemon("a")),
        ("c", daemon("a")),
        ("d", after("c", daemon("b"))),
        ("e", daemon("")),
    ]);
    shut_down(&mut machine);
    assert_eq!(machine.done(), "terminate d, terminate e");
    machine.exits("d", 0);
    assert_eq!(machine.done(), "terminate c, terminate b");
    machine.exits("e", 0);
    machine.exits("b", 0);
    assert_eq!(machine.done(), "");
    machine.exits("c", 0);
    assert_eq!(machine.done(), "terminate a");
    machine.exits("a", 0);
    assert_eq!(machine.done(), "finish poweroff");
}

#[test]
fn the_order_holds_by_way_of_one_shots_that_have_ended() {
    let mut machine =
        Machine::running([("a", daemon("")), ("b", one_shot("a")), ("c", daemon("b"))]);
    shut_down(&mut machine);
    assert_eq!(machine.done(), "terminate c");
}

#[test]
fn nothing_starts_any_more() {
    let mut machine = Machine::with([
        ("a", notifying("")),
        ("b", daemon("a")),
        ("c", on_demand(daemon(""))),
    ]);
    shut_down(&mut machine);
    machine.start("c");
    machine.restart("c");
    machine.define([("d", daemon(""))]);
    machine.notifies("a", Notice::Ready);
    assert_eq!(machine.done(), "");
    machine.exits("a", 1);
    assert_eq!(machine.done(), "finish poweroff");
}

#[test]
fn with_nothing_running_it_ends_at_once() {
    let mut machine = Machine::running([("a", one_shot("")), ("b", daemon(""))]);
    machine.exits("b", 1);
    shut_down(&mut machine);
    assert_eq!(machine.done(), "finish poweroff");
}

#[test]
fn the_later_kind_replaces_the_earlier() {
    let mut machine = Machine::running([("a", daemon(""))]);
    shut_down(&mut machine);
    machine.event(Event::Shutdown(Shutdown::Reboot));
    assert_eq!(machine.supervisor.shutdown(), Some(Shutdown::Reboot));
    machine.exits("a", 0);
    assert_eq!(machine.done(), "finish reboot");
}

#[test]
fn at_the_deadline_all_that_is_left_is_killed_and_then_given_up() {
    let slow = Policy {
        stop_timeout: secs(1000),
        ..daemon("a")
    };
    let mut machine = Machine::running([("a", daemon("")), ("b", slow)]);
    shut_down(&mut machine);
    let deadline = machine.now + secs(60);
    assert_eq!(machine.supervisor.next_deadline(), Some(deadline));
    machine.passes(secs(59));
    assert_eq!(machine.done(), "");
    machine.passes(secs(1));
    assert_eq!(machine.done(), "kill a, kill b");
    machine.passes(secs(5));
    assert_eq!(machine.done(), "finish poweroff");
    assert_eq!(machine.supervisor.next_deadline(), None);
}

#[test]
fn nothing_follows_on_the_end() {
    let mut machine = Machine::running([("a", daemon(""))]);
    shut_down(&mut machine);
    machine.exits("a", 0);
    shut_down(&mut machine);
    assert_eq!(machine.actions, []);
    machine.start("a");
    assert_eq!(machine.actions, []);
}

#[test]
fn the_largest_durations_mean_never() {
    let patient = Policy {
        start_timeout: Some(Duration::MAX),
        stop_timeout: Duration::MAX,
        watchdog: Some(Duration::MAX),
        restart: Restart {
            backoff_min: Duration::MAX,
            backoff_max: Duration::MAX,
            ..daemon("").restart
        },
        health: Some(Health {
            interval: Duration::MAX,
            timeout: Duration::MAX,
            retries: u32::MAX,
        }),
        ..daemon("")
    };
    let mut machine = Machine::running([("a", patient.clone()), ("b", patient)]);
    machine.notifies("a", Notice::Watchdog);
    machine.exits("b", 1);
    machine.passes(secs(1_000_000));
    assert_eq!(machine.state("a"), State::Ready);
    assert!(matches!(machine.state("b"), State::Backoff { .. }));
    shut_down(&mut machine);
    machine.passes(secs(60));
    machine.passes(secs(5));
    assert_eq!(machine.done(), "finish poweroff");
}

#[test]
fn a_second_shutdown_gives_no_more_time() {
    let slow = Policy {
        stop_timeout: secs(1000),
        ..daemon("")
    };
    let mut machine = Machine::running([("a", slow)]);
    shut_down(&mut machine);
    machine.passes(secs(59));
    shut_down(&mut machine);
    machine.passes(secs(1));
    assert_eq!(machine.done(), "kill a");
}

#[test]
fn what_is_awaited_is_told_with_the_time_of_its_kill() {
    let slow = Policy {
        stop_timeout: secs(1000),
        ..daemon("")
    };
    let mut machine = Machine::running([("a", daemon("")), ("b", slow), ("c", daemon(""))]);
    assert_eq!(machine.supervisor.awaited().count(), 0);
    shut_down(&mut machine);
    machine.exits("c", 0);
    let begin = machine.now;
    let awaited = |machine: &Machine| -> Vec<(String, Duration)> {
        let awaited = machine.supervisor.awaited();
        awaited
            .map(|(name, until)| (name.to_string(), until - begin))
            .collect()
    };
    let both = [("a".to_owned(), secs(10)), ("b".to_owned(), secs(60))];
    assert_eq!(awaited(&machine), both);
    machine.exits("a", 0);
    machine.passes(secs(60));
    assert_eq!(awaited(&machine), [("b".to_owned(), secs(65))]);
    machine.exits("b", 0);
    assert_eq!(awaited(&machine), []);
}
