//! Every order of steps and power cuts.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::model::{Model, hash, target};
use crate::{Goal, Step, Tries, loader_choice, next};

/// Follows `goal` from `start` with a power cut after and within each action,
/// and again after each boot that follows; a cut may also come before the
/// updater has done anything, as often as the loader allows. Checks that
/// something always boots, and that without a further cut the goal is reached.
/// Returns how many disks were seen.
fn explore(start: &Model, wanted: u8) -> usize {
    let mut seen = BTreeSet::new();
    let mut open = VecDeque::from([start.clone()]);
    while let Some(model) = open.pop_front() {
        if !seen.insert(model.clone()) {
            continue;
        }
        assert!(
            seen.len() < 50_000,
            "the exploration does not end: {model:#?}"
        );
        let booted = model
            .boot()
            .unwrap_or_else(|| panic!("nothing boots: {model:#?}"));
        open.push_back(booted);
        converges(&model, wanted);
        if let Step::Do(action) = next(&model.view(), &goal(&model, wanted)) {
            let mut after = model.clone();
            open.extend(after.perform(&action, wanted));
            open.push_back(after);
        }
    }
    seen.len()
}

/// What the updater wants on a machine that is to run `wanted`.
fn goal(model: &Model, wanted: u8) -> Goal {
    let view = model.view();
    let on_trial = view
        .booted_entry()
        .and_then(|entry| entry.tries)
        .is_some_and(Tries::is_trial);
    if model.booted == wanted || on_trial {
        Goal::Bless
    } else {
        Goal::Install(target(wanted))
    }
}

/// Without a power cut, the machine runs the wanted release in the end.
fn converges(model: &Model, wanted: u8) {
    let mut machine = model.boot().unwrap();
    let mut trace = Vec::new();
    for _ in 0..200 {
        match next(&machine.view(), &goal(&machine, wanted)) {
            Step::Do(action) => {
                machine.perform(&action, wanted);
                trace.push(action);
            }
            Step::Done if machine.booted == wanted => {
                let view = machine.view();
                let choice = loader_choice(&view.entries).unwrap();
                assert_eq!(choice.root_hash, Some(hash(wanted)));
                return;
            }
            Step::Done => machine = machine.boot().unwrap(),
            Step::Refused(refusal) => panic!("{refusal}: {machine:#?}\nafter {trace:#?}"),
        }
    }
    panic!("the update does not end: {model:#?}\n{trace:#?}");
}

#[test]
fn an_update_survives_every_power_cut() {
    let mut seen = 0;
    for (start, wanted) in [
        (Model::installed(), 2),
        (Model::installed(), 3),
        (Model::updated(1, 2), 3),
        // A downgrade.
        (Model::updated(2, 3), 1),
        (Model::updated(2, 3), 2),
    ] {
        let count = explore(&start, wanted);
        assert!(count > 20, "{count} disks from {start:?} to {wanted}");
        seen += count;
    }
    println!("{seen} disks");
}

/// Its slot is damaged: the loader falls back to the other release.
#[test]
fn a_blessed_release_whose_slot_goes_bad_falls_back() {
    let mut model = Model::updated(1, 2);
    let slot = model.slots.iter_mut().find(|slot| slot.ids == 2).unwrap();
    slot.content = 0;
    let booted = model.boot().unwrap();
    assert_eq!(booted.booted, 1);
    // The slot is repaired.
    assert!(explore(&booted, 2) > 10);
}

#[test]
fn a_roll_back_survives_every_power_cut() {
    let start = Model::updated(1, 2);
    let mut open = vec![start];
    let mut seen = BTreeMap::new();
    while let Some(model) = open.pop() {
        if seen.contains_key(&model) {
            continue;
        }
        let booted = model.boot().unwrap();
        let step = next(&model.view(), &Goal::RollBack);
        seen.insert(model.clone(), step.clone());
        match step {
            // The machine runs release 2 and continues.
            Step::Do(action) => {
                let mut after = model.clone();
                open.extend(after.perform(&action, 1));
                open.push(after);
                if booted.booted == 2 {
                    open.push(booted);
                }
            }
            Step::Done => assert_eq!(booted.booted, 1, "{model:#?}"),
            Step::Refused(refusal) => panic!("{refusal}: {model:#?}"),
        }
    }
    assert!(seen.values().any(|step| *step == Step::Done));
}
