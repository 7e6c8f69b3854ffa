//! Updates that work, and going back by hand.

use super::{
    APPLY, FIRST, Site, apply, assert_runs, follow, history, restart, up, wait_until_blessed,
};
use crate::operator::{COMMAND, fail, power_off};

#[test]
fn a_machine_goes_from_release_to_release_and_back_by_hand() {
    let site = Site::new("update-chain");
    let mut machine = site.booted();
    assert_runs(&mut machine, FIRST);

    apply(&mut machine, "kernel");
    assert_runs(&mut machine, FIRST);
    restart(&mut machine);
    assert_runs(&mut machine, "1.1");
    wait_until_blessed(&mut machine, "1.1");

    apply(&mut machine, "service");
    restart(&mut machine);
    assert_runs(&mut machine, "1.2");
    wait_until_blessed(&mut machine, "1.2");
    let installed = history(&mut machine, "installed");
    assert_eq!(installed.len(), 2, "{installed:#?}");
    assert_eq!(installed[1]["from"], "1.1");
    assert_eq!(installed[1]["to"], "1.2");
    // What did not change was not fetched: the two releases differ in a file.
    let fetched = installed[1]["fetched"].as_u64().unwrap();
    let reused = installed[1]["reused"].as_u64().unwrap();
    assert!(fetched < reused / 4, "{fetched} fetched, {reused} reused");

    // Going back asks for nothing but a restart.
    machine
        .shell("wherry update rollback --reboot never", COMMAND)
        .unwrap();
    restart(&mut machine);
    assert_runs(&mut machine, "1.1");
    let rolled_back = history(&mut machine, "rolled-back");
    assert_eq!(rolled_back.len(), 1, "{rolled_back:#?}");
    power_off(machine);
}

#[test]
fn releases_can_be_skipped_but_versions_do_not_go_back_unasked() {
    let site = Site::new("update-skip");
    let mut machine = site.booted();
    // Every block of it is another one.
    apply(&mut machine, "everything");
    restart(&mut machine);
    assert_runs(&mut machine, "2.0");
    wait_until_blessed(&mut machine, "2.0");

    follow(&mut machine, "all");
    let told = fail(&mut machine, "wherry update apply 1.2 --reboot never 2>&1");
    assert!(told.contains("--allow-downgrade"), "{told}");
    machine
        .type_line("wherry update apply 1.2 --allow-downgrade --reboot now")
        .unwrap();
    machine.wait_for("wherry: restarting", APPLY).unwrap();
    up(&mut machine);
    assert_runs(&mut machine, "1.2");
    wait_until_blessed(&mut machine, "1.2");
    power_off(machine);
}
