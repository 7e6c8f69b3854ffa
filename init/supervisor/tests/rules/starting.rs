use crate::machine::*;
use supervisor::{Exit, Failure, Notice, RestartPolicy, State};

#[test]
fn an_enabled_service_starts_when_it_is_defined() {
    let machine = Machine::with([("a", daemon(""))]);
    assert_eq!(machine.state("a"), State::Starting);
}

#[test]
fn a_service_that_is_not_enabled_waits_until_it_is_asked_for() {
    let mut machine = Machine::with([("a", on_demand(daemon("")))]);
    assert_eq!(machine.state("a"), State::Stopped);
    machine.start("a");
    assert_eq!(machine.done(), "start a");
}

#[test]
fn a_service_starts_when_all_that_it_requires_is_ready() {
    let mut machine = Machine::empty();
    machine.define([("a", daemon("")), ("b", daemon("")), ("c", daemon("a b"))]);
    assert_eq!(machine.done(), "start a, start b");
    machine.executed("b");
    assert_eq!(machine.done(), "");
    machine.executed("a");
    assert_eq!(machine.done(), "start c");
}

#[test]
fn a_one_shot_is_ready_when_it_has_ended_with_success() {
    let mut machine = Machine::with([("a", one_shot("")), ("b", daemon("a"))]);
    machine.executed("a");
    assert_eq!(machine.waits_for("b"), "a");
    machine.exits("a", 0);
    assert_eq!(machine.state("a"), State::Ended);
    assert_eq!(machine.state("b"), State::Starting);
}

#[test]
fn a_notifying_service_is_ready_when_it_says_so() {
    let mut machine = Machine::with([("a", notifying(""))]);
    machine.executed("a");
    assert_eq!(machine.state("a"), State::Starting);
    machine.notifies("a", Notice::Ready);
    assert_eq!(machine.state("a"), State::Ready);
}

#[test]
fn starting_a_service_starts_what_it_requires() {
    let mut machine = Machine::with([
        ("a", on_demand(daemon(""))),
        ("b", on_demand(daemon("a"))),
        ("c", on_demand(daemon("b"))),
    ]);
    machine.start("c");
    assert_eq!(machine.done(), "start a");
    machine.come_up();
    assert_eq!(machine.state("c"), State::Ready);
}

#[test]
fn an_enabled_service_pulls_in_what_it_requires() {
    let machine = Machine::running([("a", on_demand(daemon(""))), ("b", daemon("a"))]);
    assert_eq!(machine.state("a"), State::Ready);
}

#[test]
fn after_orders_two_starts() {
    let mut machine = Machine::with([("a", after("b", daemon(""))), ("b", notifying(""))]);
    assert_eq!(machine.waits_for("a"), "b");
    machine.notifies("b", Notice::Ready);
    assert_eq!(machine.done(), "start a");
}

#[test]
fn after_pulls_nothing_in_and_ignores_names_without_definition() {
    let machine = Machine::with([
        ("a", after("b nowhere", daemon(""))),
        ("b", on_demand(daemon(""))),
    ]);
    assert_eq!(machine.state("a"), State::Starting);
    assert_eq!(machine.state("b"), State::Stopped);
}

#[test]
fn after_waits_for_a_first_try_only() {
    let mut machine = Machine::with([("a", after("b", daemon(""))), ("b", notifying(""))]);
    machine.exits("b", 1);
    assert!(matches!(machine.state("b"), State::Backoff { .. }));
    assert_eq!(machine.state("a"), State::Starting);
}

#[test]
fn after_goes_by_way_of_what_the_other_waits_for() {
    let machine = Machine::with([
        ("a", after("b", daemon(""))),
        ("b", daemon("c")),
        ("c", notifying("")),
    ]);
    assert_eq!(machine.waits_for("a"), "b");
}

#[test]
fn after_does_not_wait_for_one_that_an_operator_keeps_down() {
    let mut machine = Machine::running([
        ("a", on_demand(after("b", daemon("")))),
        ("b", daemon("c")),
        ("c", daemon("")),
    ]);
    machine.stop("c");
    machine.ends("b", Exit::Signal(15));
    machine.ends("c", Exit::Signal(15));
    assert_eq!(machine.waits_for("b"), "c");
    machine.start("a");
    assert_eq!(machine.done(), "start a");
}

#[test]
fn a_start_that_takes_too_long_is_stopped_and_counts_as_failure() {
    let mut machine = Machine::with([("a", notifying(""))]);
    machine.executed("a");
    machine.passes(secs(30));
    assert_eq!(machine.done(), "terminate a");
    machine.passes(secs(10));
    assert_eq!(machine.done(), "kill a");
    machine.ends("a", Exit::Signal(9));
    assert!(matches!(machine.state("a"), State::Backoff { .. }));
    let a = machine.service("a");
    assert_eq!(a.failure(), Some(&Failure::StartTimeout));
}

#[test]
fn a_service_that_could_not_be_started_says_why() {
    let never = restarting(RestartPolicy::Never, daemon(""));
    let mut machine = Machine::with([("a", never)]);
    machine.start_failed("a", "no such image");
    let reason = "no such image".to_owned();
    assert_eq!(machine.failure("a"), Failure::NotStarted(reason));
}

#[test]
fn an_exit_before_it_is_ready_is_a_failure_even_with_success() {
    let never = restarting(RestartPolicy::Never, notifying(""));
    let mut machine = Machine::with([("a", never)]);
    machine.exits("a", 0);
    assert_eq!(machine.failure("a"), Failure::Exit(Exit::Code(0)));
}

#[test]
fn starting_what_is_up_changes_nothing() {
    let mut machine = Machine::running([("a", one_shot("")), ("b", daemon("a"))]);
    let before = machine.supervisor.clone();
    machine.start("a");
    machine.start("b");
    assert_eq!(machine.actions, []);
    assert_eq!(machine.supervisor, before);
}

#[test]
fn one_that_only_comes_after_another_does_not_delay_its_restart() {
    let mut machine = Machine::running([("a", after("log", daemon(""))), ("log", daemon(""))]);
    machine.stop("a");
    machine.exits("log", 1);
    machine.passes(secs(1));
    assert_eq!(machine.state("a"), State::Stopping);
    assert_eq!(machine.done(), "start log");
}

#[test]
fn starting_a_service_starts_what_an_operator_stopped_below_it() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a"))]);
    machine.stop("a");
    machine.exits("b", 0);
    machine.exits("a", 0);
    machine.start("b");
    assert_eq!(machine.done(), "start a");
}

#[test]
fn after_waits_for_a_stop_that_is_under_way() {
    let a = on_demand(after("b", daemon("")));
    let mut machine = Machine::running([("a", a), ("b", daemon(""))]);
    machine.stop("b");
    machine.start("a");
    assert_eq!(machine.waits_for("a"), "b");
    machine.exits("b", 0);
    assert_eq!(machine.done(), "start a");
}
