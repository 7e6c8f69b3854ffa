use crate::machine::*;
use supervisor::{Exit, Failure, RestartPolicy, State};

#[test]
fn a_failed_dependency_fails_its_dependents() {
    let never = restarting(RestartPolicy::Never, daemon(""));
    let mut machine = Machine::with([("a", never), ("b", daemon("a")), ("c", daemon("b"))]);
    machine.exits("a", 3);
    assert_eq!(machine.failure("a"), Failure::Exit(Exit::Code(3)));
    assert_eq!(machine.failure("b"), Failure::Dependency(name("a")));
    assert_eq!(machine.failure("c"), Failure::Dependency(name("b")));
}

#[test]
fn dependents_come_back_when_the_failed_dependency_gets_ready() {
    let never = restarting(RestartPolicy::Never, daemon(""));
    let mut machine = Machine::with([("a", never), ("b", daemon("a"))]);
    machine.exits("a", 3);
    machine.start("a");
    assert_eq!(machine.waits_for("b"), "a");
    machine.executed("a");
    assert_eq!(machine.state("b"), State::Starting);
}

#[test]
fn a_daemon_that_ended_is_no_dependency_that_is_up() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a"))]);
    machine.exits("a", 0);
    assert_eq!(machine.state("a"), State::Ended);
    machine.ends("b", Exit::Signal(15));
    assert_eq!(machine.failure("b"), Failure::Dependency(name("a")));
}

#[test]
fn starting_a_service_tries_its_failed_dependency_again() {
    let never = restarting(RestartPolicy::Never, daemon(""));
    let mut machine = Machine::with([("a", never), ("b", daemon("a"))]);
    machine.exits("a", 3);
    machine.start("b");
    assert_eq!(machine.done(), "start a");
}

#[test]
fn a_missing_dependency_is_named_and_repaired_by_its_definition() {
    let mut machine = Machine::with([("b", daemon("a"))]);
    assert_eq!(machine.failure("b"), Failure::MissingDependency(name("a")));
    machine.define([("a", on_demand(daemon("")))]);
    assert_eq!(machine.done(), "start a");
    assert_eq!(machine.waits_for("b"), "a");
}

#[test]
fn a_cycle_is_named_and_the_others_start() {
    let machine = Machine::with([
        ("a", daemon("b")),
        ("b", after("c", daemon(""))),
        ("c", daemon("a")),
        ("d", daemon("")),
        ("e", daemon("a")),
        ("f", daemon("f")),
        ("g", after("a", daemon(""))),
    ]);
    let cycle = |text| Failure::Cycle(names_in_order(text));
    assert_eq!(machine.failure("a"), cycle("a b c"));
    assert_eq!(machine.failure("b"), cycle("b c a"));
    assert_eq!(machine.failure("c"), cycle("c a b"));
    assert_eq!(machine.failure("f"), cycle("f"));
    assert_eq!(machine.failure("e"), Failure::Dependency(name("a")));
    assert_eq!(machine.state("d"), State::Starting);
    assert_eq!(machine.state("g"), State::Starting);
}

#[test]
fn a_cycle_is_over_when_a_definition_cuts_it() {
    let mut machine = Machine::with([("a", daemon("b")), ("b", daemon("a"))]);
    machine.define([("a", daemon(""))]);
    assert_eq!(machine.done(), "start a");
    assert_eq!(machine.waits_for("b"), "a");
}
