//! The single steps, and the refusals.

use super::model::{Model, UKI_LENGTH, target, version};
use crate::{Action, Goal, Refusal, Step, Tries, check, loader_choice, next};

/// The actions until the goal is reached.
fn actions(model: &mut Model, goal: &Goal, wanted: u8) -> Vec<Action> {
    let mut actions = Vec::new();
    loop {
        match next(&model.view(), goal) {
            Step::Do(action) => {
                model.perform(&action, wanted);
                actions.push(action);
                assert!(actions.len() < 50, "{actions:#?}");
            }
            Step::Done => return actions,
            Step::Refused(refusal) => panic!("{refusal}"),
        }
    }
}

fn words(actions: &[Action]) -> Vec<String> {
    actions
        .iter()
        .map(|action| {
            let text = format!("{action:?}");
            let word = text.split([' ', '{']).next().unwrap_or_default();
            word.to_owned()
        })
        .collect()
}

#[test]
fn an_update_takes_these_steps() {
    let mut model = Model::updated(1, 2);
    let steps = actions(&mut model, &Goal::Install(target(3)), 3);
    assert_eq!(
        words(&steps),
        [
            "RemoveEntry",
            "EmptySlot",
            "FillSlot",
            "NameSlot",
            "UpdateLoader",
            "StageUki",
            "PublishUki"
        ]
    );
    assert_eq!(
        steps[6],
        Action::PublishUki {
            file: "wherry_3.0+3-0.efi".to_owned()
        }
    );
}

#[test]
fn a_downgrade_takes_the_running_releases_tries() {
    let mut model = Model::updated(2, 3);
    let steps = actions(&mut model, &Goal::Install(target(1)), 1);
    assert_eq!(
        steps.last(),
        Some(&Action::RenameEntry {
            from: "wherry_3.0+7-0.efi".to_owned(),
            to: "wherry_3.0+0-7.efi".to_owned()
        })
    );
    assert_eq!(model.boot().unwrap().booted, 1);
}

#[test]
fn a_blessed_release_is_guarded_only_where_there_is_another() {
    let mut model = Model::installed();
    model.entries = vec![(1, Some(Tries { left: 2, done: 1 }))];
    actions(&mut model, &Goal::Bless, 1);
    assert_eq!(model.entries, [(1, None)]);

    let mut model = Model::updated(1, 2);
    for (before, after) in [
        ((6, 1), (6, 1)),
        ((3, 4), (7, 0)),
        ((2, 1), (7, 0)),
        ((0, 7), (7, 0)),
    ] {
        let tries = |(left, done)| Some(Tries { left, done });
        model.entries = vec![(1, None), (2, tries(before))];
        actions(&mut model, &Goal::Bless, 2);
        assert_eq!(model.entries, [(1, None), (2, tries(after))]);
    }
    // The other has failed: falling back to it does not help.
    model.entries = vec![
        (1, Some(Tries { left: 0, done: 3 })),
        (2, Some(Tries { left: 2, done: 1 })),
    ];
    actions(&mut model, &Goal::Bless, 2);
    assert_eq!(model.entries[1], (2, None));
}

#[test]
fn a_try_is_given_back() {
    let mut model = Model::updated(1, 2);
    let tries = |left, done| Some(Tries { left, done });
    model.entries = vec![(1, None), (2, tries(1, 2))];
    actions(&mut model, &Goal::Credit(Tries { left: 2, done: 1 }), 2);
    assert_eq!(model.entries[1], (2, tries(2, 1)));
}

#[test]
fn a_release_on_trial_does_not_update_the_machine() {
    let mut model = Model::updated(1, 2);
    model.entries = vec![(1, None), (2, Some(Tries { left: 2, done: 1 }))];
    assert_eq!(
        next(&model.view(), &Goal::Install(target(3))),
        Step::Refused(Refusal::OnTrial)
    );
}

#[test]
fn removable_files_count_as_free_space() {
    let view = Model::updated(1, 2).view();
    assert_eq!(check(&view, &target(3)), Ok(()));
    let mut full = view.clone();
    full.esp_free = 0;
    // The other release's entry makes room, but for the slack.
    full.entries[0].length = UKI_LENGTH + (1 << 20);
    assert_eq!(check(&full, &target(3)), Ok(()));
    full.entries[0].length = UKI_LENGTH;
    assert!(matches!(
        check(&full, &target(3)),
        Err(Refusal::EspFull { .. })
    ));
    let mut small = view;
    small.slots[0].data_length = 4096;
    assert!(matches!(
        check(&small, &target(3)),
        Err(Refusal::SlotTooSmall {
            partition: "data",
            ..
        })
    ));
}

#[test]
fn rolling_back_needs_another_undamaged_release() {
    let model = Model::installed();
    assert_eq!(
        next(&model.view(), &Goal::RollBack),
        Step::Refused(Refusal::NoOther)
    );
    let mut model = Model::updated(1, 2);
    model.slots[0].content = 0;
    let mut steps = 0;
    let refusal = loop {
        match next(&model.view(), &Goal::RollBack) {
            Step::Do(action) => {
                model.perform(&action, 1);
            }
            Step::Refused(refusal) => break refusal,
            Step::Done => panic!("rolled back to a damaged release"),
        }
        steps += 1;
    };
    assert_eq!(
        (steps, refusal),
        (
            1,
            Refusal::OtherDamaged {
                slot: crate::SlotId::A
            }
        )
    );
    assert_eq!(
        loader_choice(&model.view().entries).unwrap().version,
        version("2.0")
    );
}

#[test]
fn a_lost_entry_is_restored() {
    let mut model = Model::installed();
    model.entries.clear();
    assert_eq!(
        next(&model.view(), &Goal::Bless),
        Step::Refused(Refusal::NoEntry)
    );
    let steps = actions(&mut model, &Goal::Install(target(1)), 1);
    assert_eq!(words(&steps), ["StageUki", "PublishUki"]);
}

#[test]
fn a_count_is_read_as_the_loader_reads_it() {
    for (text, tries) in [
        ("+3", Some((3, 0))),
        ("+2-1", Some((2, 1))),
        ("+0-3", Some((0, 3))),
        ("3", None),
        ("+", None),
        ("+3-", None),
        ("+a-1", None),
        ("+-1", None),
        ("+1-2-3", None),
    ] {
        let read: Option<Tries> = text.parse().ok();
        assert_eq!(read.map(|tries| (tries.left, tries.done)), tries, "{text}");
    }
}
