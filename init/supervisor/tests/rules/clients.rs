use crate::machine::*;
use supervisor::{Failure, RestartPolicy, State};

fn waits(machine: &Machine) -> bool {
    matches!(machine.state("a"), State::Backoff { .. })
}

#[test]
fn a_client_starts_what_rests_with_all_that_it_requires() {
    let mut machine = Machine::with([("a", on_demand(daemon("b"))), ("b", on_demand(daemon("")))]);
    assert_eq!(machine.done(), "settled");
    machine.client("a", false);
    assert_eq!(machine.done(), "start b");
    machine.executed("b");
    assert_eq!(machine.done(), "start a");
    machine.executed("a");
    machine.client("a", false);
    assert_eq!(machine.done(), "");
    machine.exits("a", 0);
    assert_eq!(machine.state("a"), State::Ended);
    machine.client("a", false);
    assert_eq!(machine.done(), "start a");
}

/// Hostile: is started for a client and ends each time without taking it. Outcome: the service is restarted with growing waits and within its limit, then its clients are refused.
#[test]
fn who_leaves_its_client_waiting_is_restarted_within_its_limit() {
    let policy = limited(3, secs(100), on_demand(daemon("")));
    let mut machine = Machine::with([("a", policy)]);
    machine.client("a", false);
    for _ in 0..3 {
        assert_eq!(machine.done(), "start a");
        machine.executed("a");
        machine.exits("a", 0);
        machine.client("a", true);
        assert!(waits(&machine), "{}", machine.state("a"));
        assert_eq!(machine.service("a").failure(), Some(&Failure::ClientLeft));
        machine.passes(secs(8));
    }
    machine.executed("a");
    machine.exits("a", 0);
    machine.client("a", true);
    assert_eq!(machine.failure("a"), Failure::RestartLimit);
    machine.client("a", false);
    assert_eq!(machine.done(), "refuse a");
    // The window has room again.
    machine.passes(secs(100));
    machine.client("a", false);
    assert_eq!(machine.done(), "start a");
}

#[test]
fn what_has_failed_refuses_its_clients_until_an_operator_starts_it() {
    let policy = restarting(RestartPolicy::Never, on_demand(daemon("")));
    let mut machine = Machine::with([("a", policy)]);
    machine.client("a", false);
    machine.executed("a");
    machine.exits("a", 1);
    for _ in 0..2 {
        machine.client("a", false);
        assert_eq!(machine.done(), "refuse a");
    }
    machine.start("a");
    assert_eq!(machine.done(), "start a");
}

#[test]
fn a_client_changes_nothing_while_the_machine_ends_or_where_nobody_is() {
    let mut machine = Machine::with([("a", on_demand(daemon("")))]);
    machine.client("b", false);
    assert_eq!(machine.done(), "");
    machine.event(supervisor::Event::Shutdown(supervisor::Shutdown::Halt));
    machine.client("a", false);
    assert_eq!(machine.done(), "");
}
