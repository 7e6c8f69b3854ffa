//! What an operator asks for, from the first check to a pin.

use control::{Phase, Request as Pid1Request};
use updater_control::{Reboot, Refusal, Reply, Request, SlotState};

use crate::world::{World, entries, wait_until};

fn apply(version: Option<&str>, reboot: Reboot) -> Request {
    Request::Apply {
        version: version.map(str::to_owned),
        reboot,
        allow_downgrade: false,
    }
}

fn declined(result: Result<Reply, Refusal>) -> String {
    match result {
        Err(Refusal::Declined { message }) => message,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_release_is_found_installed_and_restarted_into() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    world.publish(2);
    let pid1 = world.pid1(1, "first");
    let updater = world.start();
    let Ok(Reply::Checked(found)) = updater.ask(&Request::Check) else {
        panic!("{}", world.log())
    };
    assert_eq!(found.running, "1.0");
    assert_eq!(found.available.unwrap().version, "2.0");
    let Ok(Reply::Applied(applied)) = updater.ask(&apply(None, Reboot::Never)) else {
        panic!("{}", world.log())
    };
    assert_eq!((applied.version.as_str(), applied.changed), ("2.0", true));
    assert!(applied.fetched > 0);
    let status = updater.status();
    assert_eq!(status.reboot_required.as_deref(), Some("2.0"));
    let slot = &status.slots[1];
    assert_eq!((slot.state, slot.next), (SlotState::Trial, true));
    assert_eq!(
        std::fs::read_to_string(world.path("run/reboot-required")).unwrap(),
        "2.0\n"
    );
    let history = updater.history();
    assert_eq!(
        (history[0].0.as_str(), history[0].1.as_str()),
        ("installed", "2.0")
    );
    // Again: it is there already.
    let Ok(Reply::Applied(again)) = updater.ask(&apply(Some("2.0"), Reboot::Now)) else {
        panic!("{}", world.log())
    };
    assert!(!again.changed);
    wait_until("PID 1 was not asked to restart", || {
        pid1.was_asked(&Pid1Request::Reboot)
    });
    updater.end();
    assert_eq!(
        entries(&world.look(1)),
        ["wherry_1.0.efi", "wherry_2.0+3-0.efi"]
    );
}

#[test]
fn what_waits_for_the_policy_is_not_known_to_the_boot_loader() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    world.configure("mode = \"automatic\"\nreboot-delay = \"1h\"\n");
    world.publish(2);
    let pid1 = world.pid1(1, "first");
    let updater = world.start();
    let status = updater.wait_for("staged release", |status| status.reboot_required.is_some());
    assert!(status.reboot_waits_for.is_some(), "{status:#?}");
    assert_eq!(entries(&world.look(1)), ["wherry_1.0.efi"]);
    assert!(!pid1.was_asked(&Pid1Request::Reboot));
    // The operator does not want to wait.
    assert!(updater.ask(&apply(None, Reboot::Now)).is_ok());
    wait_until("PID 1 was not asked to restart", || {
        pid1.was_asked(&Pid1Request::Reboot)
    });
    assert_eq!(
        entries(&world.look(1)),
        ["wherry_1.0.efi", "wherry_2.0+3-0.efi"]
    );
}

#[test]
fn an_ordered_end_makes_known_what_the_operator_was_to_restart_into() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    world.configure("mode = \"download\"\n");
    world.publish(2);
    let pid1 = world.pid1(1, "first");
    let updater = world.start();
    updater.wait_for("staged release", |status| status.reboot_required.is_some());
    assert_eq!(entries(&world.look(1)), ["wherry_1.0.efi"]);
    pid1.edit(|status| status.machine.phase = Phase::Stopping);
    updater.end();
    assert_eq!(
        entries(&world.look(1)),
        ["wherry_1.0.efi", "wherry_2.0+3-0.efi"]
    );
}

#[test]
fn hold_and_pin_are_kept_over_a_restart_of_the_updater() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    world.publish(2);
    world.publish(3);
    let _pid1 = world.pid1(1, "first");
    let updater = world.start();
    let hold = Request::Hold {
        until: None,
        because: "the fair is on".into(),
    };
    assert!(updater.ask(&hold).is_ok());
    let why = declined(updater.ask(&apply(None, Reboot::Never)));
    assert!(why.contains("the fair is on"), "{why}");
    let pin = |version: &str| Request::Pin {
        version: version.into(),
    };
    assert!(updater.ask(&pin("2.0")).is_ok());
    assert!(matches!(
        updater.ask(&pin("two")),
        Err(Refusal::Malformed { .. })
    ));
    updater.end();

    let updater = world.start();
    let status = updater.status();
    assert_eq!(status.pin.as_deref(), Some("2.0"));
    assert_eq!(status.hold.unwrap().because, "the fair is on");
    assert!(updater.ask(&Request::Resume).is_ok());
    let Ok(Reply::Applied(applied)) = updater.ask(&apply(None, Reboot::Never)) else {
        panic!("{}", world.log())
    };
    assert_eq!(applied.version, "2.0");
    assert!(updater.ask(&Request::Unpin).is_ok());
    assert_eq!(updater.status().pin, None);
}

#[test]
fn an_older_release_is_taken_only_where_that_is_allowed() {
    let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0.efi", 2)]);
    world.publish(1);
    world.publish(2);
    let _pid1 = world.pid1(2, "first");
    let updater = world.start();
    let why = declined(updater.ask(&apply(Some("1.0"), Reboot::Never)));
    assert!(why.contains("--allow-downgrade"), "{why}");
    let allowed = Request::Apply {
        version: Some("1.0".into()),
        reboot: Reboot::Never,
        allow_downgrade: true,
    };
    let Ok(Reply::Applied(applied)) = updater.ask(&allowed) else {
        panic!("{}", world.log())
    };
    assert_eq!((applied.version.as_str(), applied.changed), ("1.0", true));
    let look = world.look(2);
    assert_eq!(look["next"], "wherry_1.0.efi", "{look}");
}

#[test]
fn a_roll_back_makes_the_other_release_boot_and_is_not_undone_by_itself() {
    let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0.efi", 2)]);
    world.configure("mode = \"automatic\"\nreboot-delay = \"1h\"\n");
    world.publish(2);
    let pid1 = world.pid1(2, "first");
    let updater = world.start();
    let reboot = Reboot::Never;
    let Ok(Reply::Applied(applied)) = updater.ask(&Request::RollBack { reboot }) else {
        panic!("{}", world.log())
    };
    assert_eq!(applied.version, "1.0");
    assert_eq!(world.look(2)["next"], "wherry_1.0.efi");
    pid1.edit(|status| status.machine.phase = Phase::Stopping);
    updater.end();

    let _pid1 = world.pid1(1, "second");
    let updater = world.start();
    let Ok(Reply::Checked(found)) = updater.ask(&Request::Check) else {
        panic!("{}", world.log())
    };
    assert_eq!(found.available, None);
    assert!(
        found.reason.contains("rolled back by hand"),
        "{}",
        found.reason
    );
    let kinds: Vec<String> = updater.history().into_iter().map(|it| it.0).collect();
    assert_eq!(kinds, ["rolled back"]);
}

#[test]
fn without_a_trust_anchor_or_a_repository_it_says_what_to_do() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    std::fs::remove_file(world.path("config/update-root.json")).unwrap();
    let _pid1 = world.pid1(1, "first");
    let updater = world.start();
    let why = declined(updater.ask(&Request::Check));
    assert!(
        why.contains("trust anchor") && why.contains("update-root.json"),
        "{why}"
    );
    std::fs::write(world.path("config/update.toml"), "").unwrap();
    let why = declined(updater.ask(&Request::Check));
    assert!(why.contains("repository"), "{why}");
    std::fs::write(world.path("config/update.toml"), "colour = 1\n").unwrap();
    let problems = updater.status().problems;
    assert!(problems[0].contains("update.toml:1"), "{problems:?}");
}

#[test]
fn state_that_cannot_be_written_is_told_and_stops_no_update() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    world.publish(2);
    // A file where the folder should be: not even user 0 can write below it.
    std::fs::remove_dir(world.path("state")).unwrap();
    std::fs::write(world.path("state"), "").unwrap();
    let _pid1 = world.pid1(1, "first");
    let updater = world.start();
    let Ok(Reply::Applied(applied)) = updater.ask(&apply(None, Reboot::Never)) else {
        panic!("{}", world.log())
    };
    assert!(applied.changed);
    let status = updater.status();
    assert!(status.problems[0].contains("record.json"), "{status:#?}");
    assert_eq!(updater.history().len(), 1);
}

#[test]
fn a_release_that_has_failed_is_tried_again_by_name_and_not_before_the_restart() {
    let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0+0-3.efi", 2)]);
    world.publish(2);
    let pid1 = world.pid1(1, "second");
    std::fs::create_dir_all(world.path("run/lock")).unwrap();
    std::fs::write(world.path("run/lock/backup"), "").unwrap();
    let updater = world.start();
    assert_eq!(updater.history()[0].0, "fell back");
    // Not without its name.
    let Ok(Reply::Checked(found)) = updater.ask(&Request::Check) else {
        panic!("{}", world.log())
    };
    assert_eq!(found.available, None);
    let Ok(Reply::Applied(applied)) = updater.ask(&apply(Some("2.0"), Reboot::Now)) else {
        panic!("{}", world.log())
    };
    assert!(applied.reboot.contains("backup"), "{}", applied.reboot);
    assert_eq!(world.look(1)["next"], "wherry_1.0.efi");
    assert_eq!(updater.status().failed, []);
    std::fs::remove_file(world.path("run/lock/backup")).unwrap();
    // Asking again makes it look again at once.
    assert!(updater.ask(&apply(Some("2.0"), Reboot::Now)).is_ok());
    wait_until("PID 1 was not asked to restart", || {
        pid1.was_asked(&Pid1Request::Reboot)
    });
    assert_eq!(world.look(1)["next"], "wherry_2.0+3-0.efi");
}

#[test]
fn a_staged_release_that_is_halted_meanwhile_is_given_up() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    world.configure("mode = \"automatic\"\nreboot-delay = \"1h\"\n");
    world.publish(2);
    let pid1 = world.pid1(1, "first");
    let updater = world.start();
    updater.wait_for("staged release", |status| status.reboot_required.is_some());
    updater.end();
    world.halt(2, "it eats disks");
    world.configure("mode = \"automatic\"\nreboot-delay = \"0s\"\nreboot-spread = \"0s\"\n");
    let updater = world.start();
    updater.wait_for("withdrawal", |status| status.reboot_required.is_none());
    assert!(!pid1.was_asked(&Pid1Request::Reboot), "{}", world.log());
    assert!(world.log().contains("it eats disks"), "{}", world.log());
    wait_until("the kernel image is still staged", || {
        world.look(1)["staged"].is_null()
    });
    assert!(!world.path("run/reboot-required").exists());
}
