//! The machines that are explored.

use std::collections::BTreeMap;

use policy::{LockServer, Mode};

use super::disk::{Disk, version};
use super::explore;
use super::world::{Rare, Setup, World, apply, config};
use crate::event::{Request, RestartWhen};

/// No exploration may be larger: what is found to be is made smaller.
const MOST: usize = 100_000;

const HOLD: Request = Request::Hold {
    until: None,
    reason: None,
};

fn setup(mode: Mode, budget: &[(Rare, u8)]) -> Setup {
    Setup {
        config: config(mode),
        requests: Vec::new(),
        channels: vec![vec![(1, false), (2, false)]],
        broken: 0,
        budget: BTreeMap::from_iter(budget.iter().copied()),
    }
}

fn with_lock(mut setup: Setup) -> Setup {
    setup.config.fleet_lock = Some(LockServer {
        url: "https://lock.example.org".to_owned(),
        group: "default".to_owned(),
        id: None,
    });
    setup
}

fn walk(name: &str, setup: Setup, disk: Disk) {
    let count = explore(World::new(setup, disk), MOST);
    println!("{name}: {count} states");
    assert!(count > 500, "{name}: only {count} states");
}

/// Release 1 runs alone.
fn alone() -> Disk {
    Disk::new(1, &[(1, "")])
}

/// Release 2 is on trial for the first time.
fn on_trial() -> Disk {
    Disk::new(2, &[(1, ""), (2, "+2-1")])
}

#[test]
fn an_update_by_itself_is_lawful_whatever_fails() {
    let mut setup = setup(
        Mode::Automatic,
        &[
            (Rare::Stall, 1),
            (Rare::Failure, 1),
            (Rare::Channel, 1),
            (Rare::Lock, 2),
        ],
    );
    setup.channels.push(vec![(1, false), (2, true)]);
    walk("automatic", setup, alone());
}

#[test]
fn an_update_by_itself_survives_restarts_of_any_kind() {
    let setup = setup(
        Mode::Automatic,
        &[
            (Rare::Stall, 1),
            (Rare::Crash, 1),
            (Rare::PowerCut, 1),
            (Rare::Order, 1),
        ],
    );
    walk("restarts", setup, alone());
}

#[test]
fn a_release_that_never_comes_up_is_left_and_not_taken_again() {
    let mut setup = setup(
        Mode::Automatic,
        &[
            (Rare::Stall, 1),
            (Rare::Failure, 1),
            (Rare::PowerCut, 1),
            (Rare::Crash, 1),
        ],
    );
    setup.broken = 2;
    walk("broken", setup, alone());
}

#[test]
fn a_trial_ends_in_one_way() {
    let setup = setup(
        Mode::Automatic,
        &[
            (Rare::Stall, 2),
            (Rare::Service, 2),
            (Rare::Failure, 1),
            (Rare::Refusal, 1),
            (Rare::Crash, 1),
        ],
    );
    walk("trial", setup, on_trial());
}

#[test]
fn a_trial_survives_ends_of_any_kind() {
    let setup = setup(
        Mode::Manual,
        &[
            (Rare::Stall, 1),
            (Rare::Service, 1),
            (Rare::PowerCut, 1),
            (Rare::Order, 1),
        ],
    );
    walk("trial's ends", setup, on_trial());
}

#[test]
fn clients_are_answered_once_whatever_they_ask_and_when() {
    let mut setup = setup(Mode::Manual, &[(Rare::Stall, 1), (Rare::Ask, 3)]);
    setup.requests = vec![
        Request::Check,
        apply(None, RestartWhen::Now),
        apply(Some(2), RestartWhen::Never),
        Request::RollBack {
            restart: RestartWhen::Policy,
        },
        Request::Pin(version(1)),
    ];
    walk("clients", setup, alone());
}

#[test]
fn clients_are_answered_while_the_machine_works_by_itself() {
    let mut setup = setup(
        Mode::Automatic,
        &[(Rare::Stall, 1), (Rare::Ask, 2), (Rare::Refusal, 1)],
    );
    setup.requests = vec![
        apply(None, RestartWhen::Now),
        HOLD,
        Request::Resume,
        Request::RollBack {
            restart: RestartWhen::Now,
        },
    ];
    walk("clients beside", with_lock(setup), alone());
}

#[test]
fn a_release_that_is_left_during_its_trial_is_not_blessed() {
    let mut setup = setup(
        Mode::Automatic,
        &[
            (Rare::Stall, 1),
            (Rare::Ask, 1),
            (Rare::Service, 2),
            (Rare::Crash, 1),
        ],
    );
    setup.requests = vec![
        Request::RollBack {
            restart: RestartWhen::Never,
        },
        Request::RollBack {
            restart: RestartWhen::Policy,
        },
        Request::Check,
    ];
    walk("left on trial", setup, on_trial());
}

#[test]
fn the_fleet_is_asked_before_a_restart_and_gets_its_slot_back() {
    let mut setup = setup(
        Mode::Automatic,
        &[
            (Rare::Stall, 1),
            (Rare::Refusal, 1),
            (Rare::Lock, 2),
            (Rare::Crash, 1),
        ],
    );
    setup.config.health_time = super::world::minutes(1);
    walk("fleet", with_lock(setup), alone());
}

#[test]
fn what_the_fleet_grants_is_not_used_where_it_is_not_wanted_any_more() {
    let mut setup = setup(
        Mode::Automatic,
        &[(Rare::Stall, 1), (Rare::Ask, 2), (Rare::Channel, 1)],
    );
    setup.requests = vec![HOLD, Request::Resume, Request::Check];
    setup.channels.push(vec![(1, false), (2, true)]);
    walk("fleet and hold", with_lock(setup), alone());
}

#[test]
fn a_damaged_slot_is_repaired_by_itself() {
    let mut setup = setup(
        Mode::Automatic,
        &[
            (Rare::Stall, 1),
            (Rare::Failure, 1),
            (Rare::Crash, 1),
            (Rare::Channel, 1),
        ],
    );
    setup
        .channels
        .push(vec![(1, false), (2, false), (3, false)]);
    setup.channels.push(vec![(1, false)]);
    let mut disk = Disk::new(1, &[(1, ""), (2, "+0-7")]);
    disk.damaged = 2;
    walk("damaged", setup, disk);
}

#[test]
fn what_an_operator_stages_boots_with_the_operators_restart() {
    let mut setup = setup(
        Mode::Download,
        &[(Rare::Stall, 1), (Rare::Ask, 2), (Rare::Order, 1)],
    );
    setup.requests = vec![apply(None, RestartWhen::Never), HOLD, Request::Resume];
    walk("download", setup, alone());
}

#[test]
fn going_down_and_up_again_is_lawful() {
    let mut setup = setup(
        Mode::Automatic,
        &[(Rare::Stall, 1), (Rare::Ask, 2), (Rare::Crash, 1)],
    );
    setup.requests = vec![
        apply(Some(1), RestartWhen::Now),
        apply(Some(2), RestartWhen::Policy),
        Request::Pin(version(1)),
        Request::Unpin,
    ];
    walk("down", setup, Disk::new(2, &[(1, ""), (2, "+7-0")]));
}

#[test]
fn a_disk_that_comes_late_hides_neither_a_trial_nor_a_fall_back() {
    for disk in [on_trial(), Disk::new(1, &[(1, ""), (2, "+0-3")])] {
        let setup = setup(
            Mode::Automatic,
            &[
                (Rare::Unreadable, 3),
                (Rare::Crash, 1),
                (Rare::Service, 1),
                (Rare::Stall, 1),
            ],
        );
        walk("late disk", setup, disk);
    }
}
