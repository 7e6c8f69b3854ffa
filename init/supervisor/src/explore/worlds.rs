//! The worlds that are explored, and those that must be found wrong.

use super::world::{Definitions, Fault, SECOND, Setup, World};
use super::{draw, explore, walk};
use crate::{Health, Policy, Ready, Restart, RestartLimit, RestartPolicy, ServiceName};
use std::collections::BTreeSet;

/// No exploration may be larger: what is found to be is made smaller.
const MOST: usize = 60_000;

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
    let begin = std::time::Instant::now();
    let world = World::new(setup, &names).unwrap();
    match explore(world, MOST) {
        Ok(states) => println!("{states} states in {:?}", begin.elapsed()),
        Err(broken) => panic!("{broken}"),
    }
}

#[test]
fn laws_hold_for_one_service_that_crashes() {
    laws_hold(&setup(2, [("a", limited(2, daemon("")))]));
}

#[test]
fn laws_hold_for_a_chain() {
    laws_hold(&setup(
        1,
        [("a", daemon("")), ("b", daemon("a")), ("c", daemon("b"))],
    ));
}
