use crate::machine::*;
use std::time::Duration;
use supervisor::{Exit, Failure, RestartPolicy, State};

/// How long after its failure the service starts again.
fn wait(machine: &mut Machine) -> Duration {
    machine.exits("a", 1);
    let State::Backoff { until } = machine.state("a") else {
        panic!("no restart: {}", machine.state("a"));
    };
    let wait = until - machine.now;
    machine.passes(wait);
    assert_eq!(machine.done(), "start a");
    machine.executed("a");
    wait
}

#[test]
fn the_policy_says_after_which_ends() {
    use RestartPolicy::{Always, Never, OnFailure};
    let table = [
        (Never, daemon(""), 0, false),
        (Never, daemon(""), 1, false),
        (OnFailure, daemon(""), 0, false),
        (OnFailure, daemon(""), 1, true),
        (Always, daemon(""), 0, true),
        (Always, daemon(""), 1, true),
        (Never, one_shot(""), 0, false),
        (Never, one_shot(""), 1, false),
        (OnFailure, one_shot(""), 0, false),
        (OnFailure, one_shot(""), 1, true),
        (Always, one_shot(""), 0, true),
        (Always, one_shot(""), 1, true),
    ];
    for (policy, service, code, restarts) in table {
        let case = format!("{policy:?} {:?} {code}", service.ready);
        let mut machine = Machine::with([("a", restarting(policy, service))]);
        machine.executed("a");
        machine.exits("a", code);
        let expected = match (restarts, code) {
            (true, _) => State::Backoff { until: secs(2) },
            (false, 0) => State::Ended,
            (false, code) => State::Failed(Failure::Exit(Exit::Code(code))),
        };
        assert_eq!(machine.state("a"), expected, "{case}");
    }
}

#[test]
fn the_wait_doubles_up_to_its_maximum() {
    let mut machine = Machine::running([("a", daemon(""))]);
    let waits: Vec<_> = (0..6).map(|_| wait(&mut machine).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 8, 8]);
}

#[test]
fn the_wait_begins_anew_after_a_run_that_was_ready_for_the_longest_wait() {
    let mut machine = Machine::running([("a", daemon(""))]);
    wait(&mut machine);
    wait(&mut machine);
    machine.passes(secs(8));
    assert_eq!(wait(&mut machine), secs(1));
    machine.passes(secs(7));
    assert_eq!(wait(&mut machine), secs(2));
}

#[test]
fn more_restarts_than_the_limit_in_its_window_fail_the_service() {
    let mut machine = Machine::running([("a", limited(2, secs(60), daemon("")))]);
    wait(&mut machine);
    wait(&mut machine);
    machine.exits("a", 1);
    assert_eq!(machine.failure("a"), Failure::RestartLimit);
    let a = machine.service("a");
    assert_eq!(a.failure(), Some(&Failure::Exit(Exit::Code(1))));
    assert_eq!(a.restarts(), 2);
}

#[test]
fn restarts_older_than_the_window_do_not_count() {
    let mut machine = Machine::running([("a", limited(2, secs(60), daemon("")))]);
    for _ in 0..5 {
        wait(&mut machine);
        machine.passes(secs(60));
    }
}

#[test]
fn an_operators_restarts_do_not_count() {
    let mut machine = Machine::running([("a", limited(1, secs(60), daemon("")))]);
    for _ in 0..5 {
        machine.restart("a");
        machine.ends("a", Exit::Signal(15));
        machine.executed("a");
    }
    wait(&mut machine);
}

#[test]
fn an_operators_start_clears_the_failure_and_the_count() {
    let mut machine = Machine::running([("a", limited(1, secs(60), daemon("")))]);
    wait(&mut machine);
    machine.exits("a", 1);
    assert_eq!(machine.failure("a"), Failure::RestartLimit);
    machine.start("a");
    assert_eq!(machine.done(), "start a");
    machine.executed("a");
    assert_eq!(wait(&mut machine), secs(1));
}

#[test]
fn an_operators_start_cuts_the_wait_short() {
    let mut machine = Machine::running([("a", daemon(""))]);
    machine.exits("a", 1);
    machine.start("a");
    assert_eq!(machine.done(), "start a");
}

#[test]
fn a_stop_during_the_wait_ends_it() {
    let mut machine = Machine::running([("a", daemon(""))]);
    machine.exits("a", 1);
    machine.stop("a");
    assert_eq!(machine.state("a"), State::Stopped);
    machine.passes(secs(100));
    assert_eq!(machine.done(), "");
}

#[test]
fn a_start_that_failed_is_tried_again() {
    let mut machine = Machine::with([("a", daemon(""))]);
    machine.start_failed("a", "out of memory");
    machine.passes(secs(1));
    assert_eq!(machine.done(), "start a");
}

#[test]
fn restarts_with_a_dependency_do_not_count_and_do_not_wait() {
    let b = limited(1, secs(60), daemon("a"));
    let mut machine = Machine::running([("a", daemon("")), ("b", b)]);
    for _ in 0..5 {
        machine.restart("a");
        machine.ends("b", Exit::Signal(15));
        machine.exits("a", 0);
        machine.executed("a");
        assert_eq!(machine.done(), "start b");
        machine.executed("b");
    }
    assert_eq!(machine.service("b").restarts(), 0);
}

#[test]
fn an_operators_start_of_a_service_that_stops_for_a_failure_does_not_wait() {
    let mut machine = Machine::with([("a", notifying(""))]);
    machine.passes(secs(30));
    assert_eq!(machine.done(), "terminate a");
    machine.start("a");
    machine.ends("a", Exit::Signal(15));
    assert_eq!(machine.done(), "start a");
}

#[test]
fn an_operators_stop_and_start_clear_the_count() {
    let mut machine = Machine::running([("a", limited(1, secs(60), daemon("")))]);
    for _ in 0..3 {
        assert_eq!(wait(&mut machine), secs(1));
        machine.stop("a");
        machine.exits("a", 0);
        machine.start("a");
        machine.executed("a");
    }
}

#[test]
fn a_failure_while_an_operators_stop_is_under_way_is_not_restarted() {
    let mut machine = Machine::with([("a", notifying(""))]);
    machine.passes(secs(30));
    machine.stop("a");
    machine.ends("a", Exit::Signal(15));
    assert_eq!(machine.state("a"), State::Stopped);
    machine.passes(secs(100));
    assert_eq!(machine.done(), "");
}
