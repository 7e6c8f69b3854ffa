//! The worlds that are explored, and those that must be found wrong.

use super::world::{Definitions, Fault, SECOND, Setup, World};
use super::{draw, explore, walk};
use crate::{Health, Policy, Ready, Restart, RestartLimit, RestartPolicy, ServiceName};
use std::collections::BTreeSet;

/// No exploration may be larger: what is found to be is made smaller.
const MOST: usize = 100_000;

fn names(text: &str) -> BTreeSet<ServiceName> {
    let name = |name: &str| name.parse().unwrap_or_else(|error| panic!("{error}"));
    text.split_whitespace().map(name).collect()
}

/// Restarted at once and for ever after a failure, stops within a second.
fn daemon(requires: &str) -> Policy {
    Policy {
        requires: names(requires),
        after: BTreeSet::new(),
        ready: Ready::Started,
        start_timeout: None,
        restart: Restart {
            policy: RestartPolicy::OnFailure,
            backoff_min: SECOND,
            backoff_max: SECOND,
            limit: None,
        },
        stop_timeout: SECOND,
        health: None,
        watchdog: None,
        essential: false,
        enabled: true,
    }
}

fn ready_by(ready: Ready, policy: Policy) -> Policy {
    Policy { ready, ..policy }
}

fn after(before: &str, policy: Policy) -> Policy {
    Policy {
        after: names(before),
        ..policy
    }
}

fn restarting(restart: RestartPolicy, policy: Policy) -> Policy {
    Policy {
        restart: Restart {
            policy: restart,
            ..policy.restart
        },
        ..policy
    }
}

fn limited(count: u32, policy: Policy) -> Policy {
    Policy {
        restart: Restart {
            limit: Some(RestartLimit {
                count,
                window: SECOND * 4,
            }),
            backoff_max: SECOND * 2,
            ..policy.restart
        },
        ..policy
    }
}

fn on_demand(policy: Policy) -> Policy {
    Policy {
        enabled: false,
        ..policy
    }
}

fn define<const N: usize>(services: [(&str, Policy); N]) -> Definitions {
    let named = services.map(|(text, policy)| {
        let name = text.parse().unwrap_or_else(|error| panic!("{error}"));
        (name, policy)
    });
    named.into()
}

/// Failures, and this many commands.
fn setup<const N: usize>(commands: u32, services: [(&str, Policy); N]) -> Setup {
    Setup {
        definitions: define(services),
        changes: Vec::new(),
        removable: Vec::new(),
        commands,
        succeeds: false,
        fails: true,
        thorough: false,
        fault: None,
    }
}

fn names_in(setup: &Setup) -> Vec<ServiceName> {
    let all = setup.changes.iter().chain([&setup.definitions]);
    let names: BTreeSet<_> = all
        .flat_map(|definitions| definitions.keys().cloned())
        .collect();
    names.into_iter().collect()
}

/// All laws hold, whatever happens.
fn laws_hold(setup: &Setup) {
    let names = names_in(setup);
    let world = World::new(setup, &names).unwrap();
    match explore(world, MOST) {
        Ok(states) => println!("{states} states"),
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn laws_hold_for_one_service_that_crashes() {
    let crashing = limited(2, daemon(""));
    laws_hold(&Setup {
        succeeds: true,
        ..setup(2, [("a", crashing)])
    });
}

#[test]
fn laws_hold_for_each_restart_policy() {
    for policy in [
        RestartPolicy::Never,
        RestartPolicy::OnFailure,
        RestartPolicy::Always,
    ] {
        for ready in [Ready::Started, Ready::Exit, Ready::Notify] {
            let service = ready_by(ready, restarting(policy, daemon("")));
            laws_hold(&Setup {
                succeeds: true,
                thorough: true,
                ..setup(1, [("a", service)])
            });
        }
    }
}

#[test]
fn laws_hold_for_a_chain_that_crashes() {
    let chain = [("a", daemon("")), ("b", daemon("a")), ("c", daemon("b"))];
    laws_hold(&setup(0, chain));
}

#[test]
fn laws_hold_for_a_chain_under_command() {
    let chain = [("a", daemon("")), ("b", daemon("a")), ("c", daemon("b"))];
    laws_hold(&Setup {
        fails: false,
        ..setup(2, chain)
    });
}

#[test]
fn laws_hold_for_a_pair_that_crashes_and_ends_under_command() {
    laws_hold(&Setup {
        succeeds: true,
        ..setup(2, [("a", daemon("")), ("b", limited(1, daemon("a")))])
    });
}

#[test]
fn laws_hold_for_a_diamond() {
    let diamond = [
        ("a", daemon("")),
        ("b", daemon("a")),
        ("c", on_demand(daemon("a"))),
        ("d", daemon("b c")),
    ];
    laws_hold(&Setup {
        fails: false,
        ..setup(1, diamond)
    });
}

#[test]
fn laws_hold_for_two_that_require_one() {
    let fork = [("a", daemon("")), ("b", daemon("a")), ("c", daemon("a"))];
    laws_hold(&setup(0, fork));
}

#[test]
fn laws_hold_for_one_shots() {
    laws_hold(&setup(
        1,
        [("a", ready_by(Ready::Exit, daemon(""))), ("b", daemon("a"))],
    ));
    laws_hold(&Setup {
        fails: false,
        ..setup(
            2,
            [
                ("a", daemon("")),
                ("b", ready_by(Ready::Exit, daemon("a"))),
                ("c", daemon("b")),
            ],
        )
    });
}

#[test]
fn laws_hold_for_order_without_dependency() {
    laws_hold(&Setup {
        fails: false,
        ..setup(
            1,
            [
                ("a", daemon("")),
                ("b", after("a", daemon(""))),
                ("c", after("b", daemon("a"))),
            ],
        )
    });
    laws_hold(&setup(
        0,
        [("a", after("b", daemon(""))), ("b", daemon(""))],
    ));
}

#[test]
fn laws_hold_for_a_cycle() {
    laws_hold(&Setup {
        fails: false,
        changes: vec![define([("a", daemon(""))]), define([("c", daemon("b"))])],
        ..setup(
            2,
            [
                ("a", daemon("b")),
                ("b", after("a", daemon(""))),
                ("c", after("a", daemon(""))),
            ],
        )
    });
}

#[test]
fn laws_hold_for_notices_and_timeouts() {
    let notifying = Policy {
        ready: Ready::Notify,
        start_timeout: Some(SECOND),
        watchdog: Some(SECOND * 2),
        ..daemon("")
    };
    laws_hold(&Setup {
        succeeds: true,
        ..setup(0, [("a", notifying.clone()), ("b", daemon("a"))])
    });
    laws_hold(&Setup {
        thorough: true,
        ..setup(2, [("a", notifying)])
    });
}

#[test]
fn laws_hold_for_probes() {
    let probed = Policy {
        ready: Ready::Health,
        health: Some(Health {
            interval: SECOND,
            timeout: SECOND,
            retries: 2,
        }),
        ..daemon("")
    };
    laws_hold(&Setup {
        thorough: true,
        ..setup(1, [("a", probed.clone())])
    });
    let started = ready_by(Ready::Started, probed);
    laws_hold(&Setup {
        fails: false,
        ..setup(0, [("a", started), ("b", daemon("a"))])
    });
}

#[test]
fn laws_hold_when_stops_take_longer_than_a_shutdown_may() {
    let slow = |requires| Policy {
        stop_timeout: SECOND * 3,
        ..daemon(requires)
    };
    laws_hold(&Setup {
        fails: false,
        ..setup(1, [("a", slow("")), ("b", slow("a")), ("c", slow("b"))])
    });
}

#[test]
fn laws_hold_when_definitions_change() {
    laws_hold(&Setup {
        fails: false,
        thorough: true,
        changes: vec![
            define([("a", daemon("b")), ("b", daemon(""))]),
            define([("b", ready_by(Ready::Exit, daemon("c")))]),
            define([("c", on_demand(daemon("")))]),
        ],
        removable: names("a b").into_iter().collect(),
        ..setup(2, [("a", daemon("")), ("b", daemon("a"))])
    });
}

/// Services of all kinds with dependencies at random, cycles included.
pub(super) fn any_definitions(random: &mut u64) -> Definitions {
    let all = ["a", "b", "c", "d", "e", "f"];
    let some = |random: &mut u64, one_in: usize| -> BTreeSet<ServiceName> {
        let chosen = all.iter().filter(|_| draw(random, one_in) == 0);
        chosen.flat_map(|name| names(name)).collect()
    };
    let mut any = |name: &&str| {
        let policies = [
            RestartPolicy::Never,
            RestartPolicy::OnFailure,
            RestartPolicy::OnFailure,
        ];
        let ready = [Ready::Started, Ready::Exit, Ready::Notify, Ready::Health];
        let mut policy = restarting(policies[draw(random, 3)], daemon(""));
        if draw(random, 2) == 0 {
            policy = limited(2, policy);
        }
        policy.requires = some(random, 6);
        policy.after = some(random, 6);
        policy.ready = ready[draw(random, 4)];
        policy.enabled = draw(random, 3) > 0;
        policy.start_timeout = (draw(random, 3) == 0).then_some(SECOND * 2);
        policy.watchdog = (draw(random, 3) == 0).then_some(SECOND * 2);
        policy.health = (draw(random, 3) == 0).then_some(Health {
            interval: SECOND,
            timeout: SECOND,
            retries: 2,
        });
        (names(name), policy)
    };
    let services = all.iter().map(&mut any).collect::<Vec<_>>();
    let named = services
        .into_iter()
        .flat_map(|(names, policy)| names.into_iter().map(move |name| (name, policy.clone())));
    named.collect()
}

#[test]
fn laws_hold_on_long_ways_with_services_of_all_kinds() {
    for seed in 0..300 {
        let mut random = seed;
        let mut changes: Vec<_> = (0..3).map(|_| any_definitions(&mut random)).collect();
        for change in &mut changes {
            change.retain(|_, _| draw(&mut random, 3) == 0);
        }
        let definitions = any_definitions(&mut random);
        let setup = Setup {
            changes: if seed % 2 == 0 { changes } else { Vec::new() },
            removable: if seed % 2 == 0 {
                definitions.keys().cloned().collect()
            } else {
                Vec::new()
            },
            definitions,
            commands: 20,
            succeeds: true,
            fails: seed % 3 > 0,
            thorough: true,
            fault: None,
        };
        let names = names_in(&setup);
        let world = World::new(&setup, &names).unwrap();
        if let Err(broken) = walk(world, seed, 150) {
            panic!("with seed {seed}: {broken}");
        }
    }
}

#[test]
fn each_fault_breaks_the_law_made_for_it() {
    let two = || {
        let b = after("a", daemon("a"));
        setup(0, [("a", limited(1, daemon(""))), ("b", b)])
    };
    for (fault, law) in [
        (Fault::ExitsAreLost, "no exit is lost"),
        (
            Fault::StartsAreDoubled,
            "at most one run of a service at a time",
        ),
        (
            Fault::DependenciesAreUnknown,
            "nothing starts before its hard dependencies are ready",
        ),
        (Fault::OrderIsForgotten, "stop order reverses start order"),
        (Fault::FinishIsLost, "shutdown always ends"),
        (Fault::SettledIsDoubled, "settled is said once"),
        (
            Fault::LimitIsUnknown,
            "restarts stay within policy: not above the limit",
        ),
        (
            Fault::BackoffIsUnknown,
            "restarts stay within policy: not before the backoff",
        ),
        (
            Fault::KillsAreLost,
            "the end comes when all has ended or is given up",
        ),
        (Fault::ChangesAreLost, "each change of state is told"),
    ] {
        let setup = Setup {
            fault: Some(fault),
            ..two()
        };
        let names = names_in(&setup);
        let found = match World::new(&setup, &names) {
            Ok(world) => explore(world, MOST).err().map(|broken| broken.law),
            Err(law) => Some(law),
        };
        assert_eq!(found.as_deref(), Some(law), "{fault:?}");
    }
}
