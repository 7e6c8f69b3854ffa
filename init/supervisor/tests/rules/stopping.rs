use crate::machine::*;
use supervisor::{Exit, Failure, Notice, State};

#[test]
fn stopping_a_dependency_stops_its_dependents_first() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a")), ("c", daemon("b"))]);
    machine.stop("a");
    assert_eq!(machine.done(), "terminate c");
    assert_eq!(machine.state("a"), State::Stopping);
    machine.ends("c", Exit::Signal(15));
    assert_eq!(machine.done(), "terminate b");
    machine.ends("b", Exit::Signal(15));
    assert_eq!(machine.done(), "terminate a");
    machine.ends("a", Exit::Signal(15));
    assert_eq!(machine.done(), "");
    assert_eq!(machine.state("a"), State::Stopped);
    assert_eq!(machine.waits_for("b"), "a");
    assert_eq!(machine.waits_for("c"), "b");
}

#[test]
fn dependents_come_back_with_the_dependency_that_an_operator_stopped() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a"))]);
    machine.stop("a");
    machine.exits("b", 0);
    machine.exits("a", 0);
    machine.start("a");
    machine.come_up();
    assert_eq!(machine.state("b"), State::Ready);
}

#[test]
fn a_service_that_an_operator_stopped_stays_down_when_its_dependency_comes_back() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a"))]);
    machine.stop("b");
    machine.exits("b", 0);
    machine.restart("a");
    machine.exits("a", 0);
    machine.come_up();
    assert_eq!(machine.state("a"), State::Ready);
    assert_eq!(machine.state("b"), State::Stopped);
}

#[test]
fn restarting_a_dependency_brings_its_dependents_back() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a"))]);
    machine.restart("a");
    assert_eq!(machine.done(), "terminate b");
    machine.exits("b", 0);
    assert_eq!(machine.done(), "terminate a");
    machine.exits("a", 0);
    assert_eq!(machine.done(), "start a");
    machine.executed("a");
    assert_eq!(machine.done(), "start b");
}

#[test]
fn restarting_a_one_shot_runs_it_again_between_two_runs_of_its_dependents() {
    let mut machine = Machine::running([("a", one_shot("")), ("b", daemon("a"))]);
    machine.restart("a");
    assert_eq!(machine.done(), "terminate b");
    assert_eq!(machine.waits_for("a"), "b");
    machine.exits("b", 0);
    assert_eq!(machine.done(), "start a");
    machine.exits("a", 0);
    assert_eq!(machine.done(), "start b");
}

#[test]
fn a_crash_stops_the_dependents_and_they_come_back_after_the_restart() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a"))]);
    machine.exits("a", 1);
    assert_eq!(machine.done(), "terminate b");
    machine.passes(secs(1));
    assert_eq!(machine.waits_for("a"), "b");
    machine.exits("b", 0);
    assert_eq!(machine.done(), "start a");
    machine.executed("a");
    assert_eq!(machine.done(), "start b");
}

#[test]
fn a_one_shot_that_has_ended_is_done_whatever_becomes_of_its_dependency() {
    let mut machine =
        Machine::running([("a", daemon("")), ("b", one_shot("a")), ("c", daemon("b"))]);
    machine.exits("a", 1);
    assert_eq!(machine.done(), "");
    assert_eq!(machine.state("b"), State::Ended);
    assert_eq!(machine.state("c"), State::Ready);
}

#[test]
fn a_service_that_ignores_the_stop_signal_is_killed() {
    let mut machine = Machine::running([("a", daemon(""))]);
    machine.stop("a");
    machine.passes(secs(9));
    assert_eq!(machine.done(), "");
    machine.passes(secs(1));
    assert_eq!(machine.done(), "kill a");
    machine.ends("a", Exit::Signal(9));
    assert_eq!(machine.state("a"), State::Stopped);
}

#[test]
fn one_that_does_not_even_end_when_killed_is_given_up_until_it_does() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a"))]);
    machine.restart("b");
    machine.passes(secs(10));
    machine.passes(secs(5));
    assert_eq!(machine.failure("b"), Failure::StopTimeout);
    // No second run beside it, and nobody waits for it.
    machine.start("b");
    assert_eq!(machine.done(), "");
    machine.stop("a");
    assert_eq!(machine.done(), "terminate a");
    machine.exits("a", 0);
    machine.start("a");
    machine.executed("a");
    assert_eq!(machine.done(), "");
    machine.ends("b", Exit::Signal(9));
    assert_eq!(machine.done(), "start b");
}

#[test]
fn a_service_that_says_it_stops_is_given_the_stop_timeout() {
    let mut machine = Machine::running([("a", notifying("")), ("b", daemon("a"))]);
    machine.notifies("a", Notice::Stopping);
    assert_eq!(machine.done(), "terminate b");
    assert_eq!(machine.state("a"), State::Stopping);
    machine.passes(secs(10));
    assert!(machine.done().contains("kill a"));
}

#[test]
fn a_service_that_said_it_stops_is_judged_by_its_exit() {
    let mut machine = Machine::running([("a", notifying("")), ("b", notifying(""))]);
    machine.notifies("a", Notice::Stopping);
    machine.exits("a", 0);
    assert_eq!(machine.state("a"), State::Ended);
    machine.notifies("b", Notice::Stopping);
    machine.exits("b", 1);
    assert!(matches!(machine.state("b"), State::Backoff { .. }));
}

#[test]
fn a_service_started_while_it_stops_comes_back_at_once() {
    let mut machine = Machine::running([("a", daemon(""))]);
    machine.stop("a");
    machine.start("a");
    assert_eq!(machine.state("a"), State::Stopping);
    machine.exits("a", 0);
    assert_eq!(machine.done(), "start a");
}
