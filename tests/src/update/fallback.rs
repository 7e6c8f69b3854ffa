//! Releases that do not work: each gives way to the release before it once its
//! tries are used up, and the history says why.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;

use machine::Machine;

use super::{FIRST, Site, apply, assert_runs, history, partition, status, up, wait_until_blessed};
use crate::operator::{build, power_off, run};

/// Installs the newest release of `channel`, restarts, and waits until the first
/// release runs again by itself. Returns why.
fn falls_back(site: &Site, channel: &str, version: &str, tried: &str) -> String {
    let mut machine = site.booted();
    apply(&mut machine, channel);
    machine.type_line("wherry reboot").unwrap();
    machine.wait_for(tried, super::FIRMWARE_BOOT).unwrap();
    // The loader's tries, then the old one's prompt.
    wait_for_release(&mut machine, FIRST);
    let reason = fell_back(&mut machine, version);
    // It is not tried again by itself.
    let now = status(&mut machine);
    assert_eq!(now["failed"][0]["version"], version, "{now:#}");
    assert_eq!(now["booted"]["version"], FIRST, "{now:#}");
    power_off(machine);
    assert_tries(site, version, "+0-3");
    reason
}

/// The history has one release that gave way, and it is this one. Returns why.
fn fell_back(machine: &mut Machine, version: &str) -> String {
    let records = history(machine, "fell-back");
    assert_eq!(records.len(), 1, "{records:#?}");
    assert_eq!(records[0]["from"], FIRST, "{records:#?}");
    assert_eq!(records[0]["to"], version, "{records:#?}");
    records[0]["reason"].as_str().unwrap().to_owned()
}

/// The loader's count in the name of a release's boot entry, as another
/// program reads it from the ESP.
fn assert_tries(site: &Site, version: &str, tries: &str) {
    let (start, _) = partition(&site.disk(), 1);
    let image = format!("{}@@{start}", site.disk().display());
    let mut list = build().tools().unwrap().command("mdir").unwrap();
    let output = list
        .args(["-b", "-i", &image, "::/EFI/Linux"])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let entries = String::from_utf8(output.stdout).unwrap();
    let entry = format!("/wherry_{version}{tries}.efi");
    assert!(
        entries.lines().any(|line| line.ends_with(&entry)),
        "no {entry} in {entries}"
    );
}

/// Waits for boot after boot until this release runs and its shell answers.
fn wait_for_release(machine: &mut Machine, version: &str) {
    for _ in 0..6 {
        up(machine);
        // A release on trial that restarts takes the shell with it.
        if let Ok(output) = machine.shell("cat /proc/cmdline", crate::operator::COMMAND)
            && output.text.contains(&super::root_hash(version))
        {
            return;
        }
    }
    panic!("{version} did not come back: {}", machine.console());
}

#[test]
fn a_release_whose_essential_service_fails_gives_way() {
    let site = Site::new("update-unhealthy");
    let reason = falls_back(&site, "unhealthy", "3.0", "wherry: ");
    assert!(reason.contains("broken"), "{reason}");
}

#[test]
fn a_release_that_panics_at_once_gives_way() {
    let site = Site::new("update-panics");
    let reason = falls_back(&site, "panics", "3.1", "Kernel panic");
    assert!(reason.contains("panic"), "{reason}");
}

#[test]
fn a_release_that_hangs_gives_way() {
    let site = Site::new("update-hangs");
    let reason = falls_back(&site, "hangs", "3.2", "init hangs");
    assert!(reason.contains("watchdog"), "{reason}");
}

#[test]
fn a_release_whose_root_is_damaged_after_it_was_written_gives_way() {
    let site = Site::new("update-damaged");
    let mut machine = site.booted();
    apply(&mut machine, "service");
    power_off(machine);
    damage(&site, 4);
    let mut machine = site.start_with(|builder| builder);
    machine
        .wait_for("is corrupted", super::FIRMWARE_BOOT)
        .unwrap();
    wait_for_release(&mut machine, FIRST);
    let reason = fell_back(&mut machine, "1.2");
    assert!(reason.contains("panic"), "{reason}");
    let now = status(&mut machine);
    assert_eq!(now["failed"][0]["version"], "1.2", "{now:#}");
    power_off(machine);
    assert_tries(&site, "1.2", "+0-3");
}

#[test]
fn a_machine_whose_running_slot_goes_bad_boots_the_other_one() {
    let site = Site::new("update-bad-slot");
    let mut machine = site.booted();
    apply(&mut machine, "service");
    super::restart(&mut machine);
    wait_until_blessed(&mut machine, "1.2");
    run(&mut machine, "sync");
    power_off(machine);
    damage(&site, 4);
    let mut machine = site.start_with(|builder| builder.limit(super::LIFE));
    // The guard's seven tries, then the first release.
    machine
        .wait_for("is corrupted", super::FIRMWARE_BOOT)
        .unwrap();
    wait_for_release(&mut machine, FIRST);
    assert_runs(&mut machine, FIRST);
    fell_back(&mut machine, "1.2");
    // It had worked, so its slot is read; it is not a release that has failed.
    let told =
        "until wherry logs -s updater | grep -q 'the slot of 1.2 is damaged'; do sleep 1; done";
    run(&mut machine, told);
    let now = status(&mut machine);
    assert_eq!(now["failed"], serde_json::json!([]), "{now:#}");
    power_off(machine);
    assert_tries(&site, "1.2", "+0-7");
}

/// Changes one bit in each block of a partition that holds anything.
fn damage(site: &Site, number: u32) {
    const BLOCK: u64 = 4096;
    let disk = site.disk();
    let (start, length) = partition(&disk, number);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&disk)
        .unwrap();
    let mut block = vec![0; BLOCK as usize];
    let mut changed = 0;
    for number in 1..length / BLOCK {
        let at = start + number * BLOCK;
        file.read_exact_at(&mut block, at).unwrap();
        if block.iter().any(|byte| *byte != 0) {
            block[100] ^= 1;
            file.write_all_at(&block, at).unwrap();
            changed += 1;
        }
    }
    assert!(changed > 100, "{changed} blocks");
}
