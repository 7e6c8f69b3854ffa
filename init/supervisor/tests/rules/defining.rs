use crate::machine::*;
use supervisor::{Event, Failure, Notice, Policy, RestartPolicy, State};

#[test]
fn a_changed_stop_timeout_counts_at_once() {
    let mut machine = Machine::running([("a", daemon(""))]);
    let hasty = Policy {
        stop_timeout: secs(2),
        ..daemon("")
    };
    machine.define([("a", hasty)]);
    machine.stop("a");
    machine.passes(secs(2));
    assert_eq!(machine.done(), "kill a");
}

#[test]
fn a_changed_way_to_get_ready_counts_from_the_next_run_on() {
    let mut machine = Machine::with([("a", notifying(""))]);
    machine.define([("a", daemon(""))]);
    machine.executed("a");
    assert_eq!(machine.state("a"), State::Starting);
    machine.notifies("a", Notice::Ready);
    assert_eq!(machine.state("a"), State::Ready);
    machine.restart("a");
    machine.exits("a", 0);
    machine.executed("a");
    assert_eq!(machine.state("a"), State::Ready);
}

#[test]
fn a_new_dependency_stops_a_running_service_when_it_goes_down() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon(""))]);
    machine.define([("b", daemon("a"))]);
    assert_eq!(machine.state("b"), State::Ready);
    machine.stop("a");
    assert_eq!(machine.done(), "terminate b");
}

#[test]
fn a_new_dependency_starts_though_a_service_runs_that_requires_it_now() {
    let mut machine = Machine::running([("b", daemon(""))]);
    machine.define([("a", on_demand(daemon(""))), ("b", daemon("a"))]);
    assert_eq!(machine.done(), "start a");
    assert_eq!(machine.state("b"), State::Ready);
}

#[test]
fn a_service_that_is_enabled_by_its_new_definition_starts() {
    let mut machine = Machine::running([("a", on_demand(daemon("")))]);
    machine.define([("a", daemon(""))]);
    assert_eq!(machine.done(), "start a");
}

#[test]
fn a_service_that_is_disabled_but_required_stays_wanted() {
    let never = restarting(RestartPolicy::Never, daemon(""));
    let mut machine = Machine::with([("a", never), ("b", daemon("a"))]);
    machine.exits("a", 1);
    machine.define([("a", on_demand(daemon("")))]);
    assert_eq!(machine.done(), "start a");
}

#[test]
fn a_definition_does_not_undo_an_operators_stop() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a"))]);
    machine.stop("a");
    machine.exits("b", 0);
    machine.exits("a", 0);
    machine.define([("a", daemon("")), ("b", daemon("a"))]);
    assert_eq!(machine.state("a"), State::Stopped);
    assert_eq!(machine.waits_for("b"), "a");
}

#[test]
fn a_new_definition_tries_a_failed_service_again() {
    let never = restarting(RestartPolicy::Never, daemon(""));
    let mut machine = Machine::with([("a", never)]);
    machine.exits("a", 3);
    machine.define([("a", daemon(""))]);
    assert_eq!(machine.done(), "start a");
}

#[test]
fn a_failed_service_that_is_disabled_stays_down() {
    let never = restarting(RestartPolicy::Never, daemon(""));
    let mut machine = Machine::with([("a", never)]);
    machine.exits("a", 3);
    machine.define([("a", on_demand(daemon("")))]);
    assert_eq!(machine.state("a"), State::Stopped);
}

#[test]
fn a_removed_service_stops_and_is_forgotten() {
    let mut machine = Machine::running([("a", daemon("")), ("b", daemon("a"))]);
    machine.event(Event::Remove(name("a")));
    assert_eq!(machine.done(), "terminate b");
    machine.exits("b", 0);
    assert_eq!(machine.failure("b"), Failure::MissingDependency(name("a")));
    assert_eq!(machine.done(), "terminate a");
    machine.exits("a", 0);
    assert_eq!(machine.supervisor.service(&name("a")), None);
}

#[test]
fn a_service_removed_and_defined_again_while_it_stops_comes_back() {
    let mut machine = Machine::running([("a", daemon(""))]);
    machine.event(Event::Remove(name("a")));
    machine.define([("a", daemon(""))]);
    machine.exits("a", 0);
    assert_eq!(machine.done(), "start a");
}

#[test]
fn a_changed_definition_leaves_a_running_service_running() {
    let mut machine = Machine::running([("a", daemon(""))]);
    machine.define([("a", notifying("missing"))]);
    assert_eq!(machine.actions, []);
    assert_eq!(machine.state("a"), State::Ready);
    machine.restart("a");
    machine.exits("a", 0);
    let missing = Failure::MissingDependency(name("missing"));
    assert_eq!(machine.failure("a"), missing);
}
