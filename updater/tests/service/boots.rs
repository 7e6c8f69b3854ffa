//! What becomes of a release after the restart.

use control::{Phase, Request as Pid1Request, ServiceState};
use fake_init::FakeInit;
use updater_control::Request;

use crate::world::{World, entries, service, wait_until};

const QUICK: &str = "mode = \"manual\"\nhealth-time = \"1s\"\nhealth-limit = \"10m\"\n";

fn ends_in_reboot(world: &World, pid1: &FakeInit) {
    wait_until("PID 1 was not asked to restart", || {
        pid1.was_asked(&Pid1Request::Reboot)
    });
    assert!(
        !pid1.was_asked(&Pid1Request::ConfirmBoot),
        "{}",
        world.log()
    );
}

#[test]
fn a_release_on_trial_is_blessed_when_all_is_well() {
    let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0+2-1.efi", 2)]);
    world.configure(QUICK);
    world.publish(2);
    let pid1 = world.pid1(2, "first");
    pid1.change(service("network", ServiceState::Starting));
    let updater = world.start();
    let status = updater.status();
    assert_eq!(status.booted.trial.unwrap().tries_left, 2);
    pid1.change(service("network", ServiceState::Ready));
    updater.wait_for("blessing", |status| status.booted.trial.is_none());
    wait_until("PID 1 was not told", || {
        pid1.was_asked(&Pid1Request::ConfirmBoot)
    });
    assert_eq!(
        entries(&world.look(2)),
        ["wherry_1.0.efi", "wherry_2.0+7-0.efi"]
    );
    assert_eq!(updater.history()[0].0, "blessed");
}

#[test]
fn an_essential_service_that_fails_ends_the_trial_and_the_old_release_knows_why() {
    let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0+0-3.efi", 2)]);
    world.configure(QUICK);
    world.publish(2);
    let pid1 = world.pid1(2, "first");
    let updater = world.start();
    let mut failed = service("web", ServiceState::Failed);
    failed.detail = "exited with 3".into();
    pid1.change(failed);
    ends_in_reboot(&world, &pid1);
    updater.end();

    // The loader has no tries left for it.
    let _pid1 = world.pid1(1, "second");
    let updater = world.start();
    let history = updater.history();
    assert_eq!(
        (history[0].0.as_str(), history[0].1.as_str()),
        ("fell back", "2.0")
    );
    assert!(history[0].2.contains("web") && history[0].2.contains("exited with 3"));
    assert_eq!(updater.status().failed[0].version, "2.0");
    let Ok(updater_control::Reply::Checked(found)) = updater.ask(&Request::Check) else {
        panic!("{}", world.log())
    };
    assert_eq!(found.available, None);
    // A restart of the updater adds nothing.
    updater.end();
    assert_eq!(world.start().history().len(), 1);
}

#[test]
fn a_panic_is_the_reason_where_the_kernel_has_left_one() {
    let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0+0-3.efi", 2)]);
    let record = world.path("pstore/dmsg");
    std::fs::write(
        record.with_file_name("dmesg-efi_pstore-1"),
        "Panic#1 Part1\n<0>[    1.0] Kernel panic - not syncing: Attempted to kill init!\n",
    )
    .unwrap();
    let _pid1 = world.pid1(1, "second");
    let updater = world.start();
    let reason = &updater.history()[0].2;
    assert!(
        reason.contains("panic") && reason.contains("kill init"),
        "{reason}"
    );
    assert_eq!(std::fs::read_dir(world.path("pstore")).unwrap().count(), 0);
}

#[test]
fn a_watchdogs_reset_is_a_reason_too() {
    let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0+0-3.efi", 2)]);
    let pid1 = world.pid1(1, "second");
    pid1.edit(|status| status.machine.watchdog_reset = true);
    let updater = world.start();
    let reason = &updater.history()[0].2;
    assert!(reason.contains("watchdog"), "{reason}");
}

#[test]
fn a_power_loss_and_an_ordered_end_burn_no_try() {
    for (is_ordered, boot_id) in [(true, "ordered"), (false, "cut")] {
        let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0+1-2.efi", 2)]);
        world.configure(QUICK);
        world.publish(2);
        let pid1 = world.pid1(2, boot_id);
        pid1.change(service("network", ServiceState::Starting));
        let updater = world.start();
        assert_eq!(updater.history(), []);
        if is_ordered {
            pid1.edit(|status| status.machine.phase = Phase::Stopping);
            updater.end();
        } else {
            drop(updater);
        }
        let pid1 = world.pid1(2, "next");
        pid1.change(service("network", ServiceState::Starting));
        let updater = world.start();
        wait_until("no try was given back", || {
            entries(&world.look(2)).contains(&"wherry_2.0+2-1.efi".to_owned())
        });
        updater.wait_for("a count that is shown", |status| {
            status
                .booted
                .trial
                .as_ref()
                .is_some_and(|trial| trial.tries_left == 2)
        });
        assert_eq!(updater.history()[0].0, "try given back");
    }
}

#[test]
fn a_blessed_release_whose_slot_went_bad_is_repaired() {
    let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0+0-7.efi", 2)]);
    world.configure("mode = \"automatic\"\nreboot-delay = \"1h\"\n");
    world.publish(2);
    // One byte of 2.0's root.
    let mut image = std::fs::read(world.disk()).unwrap();
    let data = &crate::world::release(2).data;
    let at = image
        .windows(data.len())
        .position(|window| window == data.as_slice())
        .unwrap();
    image[at + 5000] ^= 1;
    std::fs::write(world.disk(), image).unwrap();
    let _pid1 = world.pid1(1, "second");
    let updater = world.start();
    let status = updater.wait_for("repaired slot", |status| {
        status.reboot_required.as_deref() == Some("2.0")
    });
    assert_eq!(status.failed, []);
    let kinds: Vec<String> = updater.history().into_iter().map(|it| it.0).collect();
    assert_eq!(kinds, ["fell back", "repaired"]);
}

#[test]
fn a_blessed_release_whose_slot_is_whole_has_failed() {
    let world = World::new(&[("wherry_1.0.efi", 1), ("wherry_2.0+0-7.efi", 2)]);
    world.publish(2);
    let _pid1 = world.pid1(1, "second");
    let updater = world.start();
    updater.wait_for("failure", |status| {
        status.failed.iter().any(|failed| failed.version == "2.0")
    });
}
