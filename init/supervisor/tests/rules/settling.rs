use crate::machine::*;
use supervisor::{Event, RestartPolicy};

#[test]
fn it_is_said_when_all_enabled_services_are_ready_or_ended() {
    let mut machine = Machine::with([
        ("a", daemon("")),
        ("b", one_shot("")),
        ("c", on_demand(daemon(""))),
    ]);
    machine.executed("a");
    assert_eq!(machine.done(), "");
    machine.exits("b", 0);
    assert_eq!(machine.done(), "settled");
    machine.restart("a");
    machine.exits("a", 0);
    machine.executed("a");
    assert_eq!(machine.done(), "");
}

#[test]
fn it_is_not_said_before_all_is_defined() {
    let mut machine = Machine::empty();
    machine.define([("a", daemon(""))]);
    machine.executed("a");
    assert_eq!(machine.done(), "");
    machine.event(Event::AllDefined);
    assert_eq!(machine.done(), "settled");
}

#[test]
fn it_names_those_that_failed() {
    let never = restarting(RestartPolicy::Never, daemon(""));
    let mut machine = Machine::with([("a", never), ("b", daemon("a")), ("c", daemon("x"))]);
    machine.exits("a", 1);
    assert_eq!(machine.done(), "settled a b c");
}

#[test]
fn one_that_crashes_ever_again_counts_as_failed_after_three_times() {
    let mut machine = Machine::with([("a", notifying("")), ("b", daemon("a"))]);
    machine.exits("a", 1);
    machine.passes(secs(1));
    machine.exits("a", 1);
    machine.passes(secs(2));
    assert_eq!(machine.done(), "start a");
    machine.exits("a", 1);
    assert_eq!(machine.done(), "settled a b");
}

#[test]
fn one_that_an_operator_stopped_is_not_waited_for() {
    let mut machine = Machine::with([("a", notifying("")), ("b", daemon("a"))]);
    machine.stop("a");
    machine.exits("a", 0);
    assert_eq!(machine.done(), "settled");
}

#[test]
fn without_any_service_it_is_said_at_once() {
    let mut machine = Machine::empty();
    machine.event(Event::AllDefined);
    assert_eq!(machine.done(), "settled");
}
