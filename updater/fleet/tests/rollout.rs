//! What a fleet's rollout must guarantee, whatever happens.
#![allow(clippy::unwrap_used, reason = "what fails here fails the test")]

use std::sync::LazyLock;

use fleet::{Record, Scenario, Summary, run, summary};
use release::Version;

/// The fleet of the manual's picture, once for all tests that look at it.
static FLEET: LazyLock<(Scenario, Record, Summary)> =
    LazyLock::new(|| of(Scenario::two_weeks(1000, 1)));

fn of(scenario: Scenario) -> (Scenario, Record, Summary) {
    let record = run(&scenario).unwrap();
    let summary = summary(&scenario, &record);
    (scenario, record, summary)
}

const HOUR: u64 = 3_600_000;

fn version(text: &str) -> Version {
    text.parse().unwrap()
}

#[test]
fn never_more_machines_are_away_than_the_lock_server_has_slots() {
    let (scenario, record, summary) = &*FLEET;
    assert_eq!(summary.most_reboots_at_once, scenario.lock_slots);
    assert!(
        record
            .samples
            .iter()
            .all(|sample| sample.away <= scenario.lock_slots)
    );
    assert_eq!(summary.most_slots_taken, scenario.lock_slots);
    assert_eq!(summary.slots_taken_at_end, 0, "each slot came back");
    assert_eq!(summary.reboots_outside_of_windows, 0);
    assert!(summary.power_cuts > 100 && summary.lock_refusals > 1000);
}

#[test]
fn every_machine_ends_with_the_newest_good_release_but_for_those_that_must_not_move() {
    let (_, record, summary) = &*FLEET;
    for (number, (running, settled)) in record.end.iter().enumerate() {
        let expected = if record.kept.contains(&number) {
            "1.0"
        } else {
            "2.2"
        };
        assert_eq!(
            (running, settled),
            (&version(expected), &true),
            "machine {number}"
        );
    }
    assert_eq!(summary.kept, 20);
    assert_eq!(summary.kept_that_moved, 0);
    for machines in record.tried.values() {
        assert!(machines.keys().all(|number| !record.kept.contains(number)));
    }
}

#[test]
fn a_machine_on_which_a_bad_release_fails_is_back_on_the_old_one_and_healthy() {
    let (_, record, summary) = &*FLEET;
    let bad = version("2.1");
    let (tried, blessed) = (&record.tried[&bad], &record.blessed[&bad]);
    let fell_back = &record.fell_back[&bad];
    for (number, at) in tried {
        // Its services are unhealthy, or it is one of the few on which they are
        // not.
        assert_ne!(fell_back.contains_key(number), blessed.contains_key(number));
        if let Some(back) = fell_back.get(number) {
            // Three tries of ten minutes each, and their boots.
            assert!(*back > at + HOUR / 2 && *back < at + HOUR);
            // The next good one is taken from there.
            assert_eq!(record.end[*number], (version("2.2"), true));
        }
    }
    assert_eq!(summary.versions["2.1"].tried, tried.len());
    assert!(!record.blessed.contains_key(&version("2.1")) || blessed.len() < tried.len());
}

#[test]
fn a_bad_release_is_stopped_within_its_first_wave() {
    let (scenario, record, summary) = &*FLEET;
    let of = &summary.versions["2.1"];
    assert!(of.fell_back >= scenario.halt_after);
    assert!(of.halted_after_hours.is_some_and(|hours| hours < 24.0));
    assert!(of.tried_percent <= f64::from(of.first_wave_percent));
    // Nobody boots it after the halt, except those that were just rebooting.
    let halted = record.halted[&version("2.1")];
    assert!(
        record.tried[&version("2.1")]
            .values()
            .all(|at| *at < halted + HOUR / 12)
    );
}

#[test]
fn even_with_many_slots_and_a_slow_operator_no_more_than_the_first_wave_tries_it() {
    let mut scenario = Scenario::two_weeks(1000, 5);
    scenario.length = 6 * 24 * HOUR;
    scenario.lock_slots = 200;
    // Decided at once, but published only just before the second wave.
    scenario.halt_delay = 22 * HOUR;
    let (_, record, summary) = of(scenario);
    let of = &summary.versions["2.1"];
    assert!(of.fell_back > 20, "{of:?}");
    assert!(of.halted_after_hours.is_some_and(|hours| hours > 22.0));
    // 5 % of 1,000, and four standard deviations.
    assert!(of.tried <= 50 + 28, "{of:?}");
    assert_eq!(of.tried, of.fell_back + of.blessed);
    for number in record.fell_back[&version("2.1")].keys() {
        assert_eq!(record.end[*number], (version("2.0"), true));
    }
}

#[test]
fn while_the_lock_server_is_down_nobody_reboots_and_afterwards_all_do() {
    let (scenario, record, summary) = &*FLEET;
    assert!(summary.lock_unanswered > 1000);
    assert_eq!(summary.reboots_while_lock_down, 0);
    let (from, until) = scenario.lock_down[0];
    let between = |from: u64, until: u64| {
        record
            .reboots
            .iter()
            .filter(|at| from <= **at && **at < until)
            .count()
    };
    assert!(between(from - 6 * HOUR, from) > 0);
    assert!(between(until, until + 6 * HOUR) > 100);

    // Without the outage it finishes earlier, with the same result.
    let mut good = scenario.clone();
    good.lock_down.clear();
    let (_, _, without) = of(good);
    assert_eq!(without.end, summary.end);
    let half = |summary: &Summary| summary.versions["2.2"].half_after_hours;
    assert!(
        half(&without) < half(summary),
        "{:?} {:?}",
        half(&without),
        half(summary)
    );
}

#[test]
fn the_same_seed_is_the_same_fleet_and_another_one_is_another() {
    let small = |seed| {
        let (_, record, summary) = of(Scenario::two_weeks(120, seed));
        assert!(summary.most_reboots_at_once <= 10);
        assert_eq!(summary.unsettled_at_end, 0);
        record
    };
    let first = small(3);
    assert!(first == small(3));
    assert!(first != small(4));
}

#[test]
fn the_picture_has_its_axes_its_legend_and_what_happened() {
    let (scenario, record, _) = &*FLEET;
    let picture = fleet::draw(scenario, record);
    for words in [
        "machines that run the release",
        "reboots at once",
        "10 slots of the FleetLock server",
        "2.1 is halted:",
        "maintenance windows",
        "lock server down",
        "Berlin",
        "Mon 03-22",
        "20 on hold or pinned stay with 1.0",
    ] {
        assert!(picture.contains(words), "{words}");
    }
    assert_eq!(picture, fleet::draw(scenario, record));
}
