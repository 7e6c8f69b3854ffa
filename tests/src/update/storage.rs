//! Disks that are full, too small, read-only or broken: the update says so, and
//! what runs is left alone.

use std::fs::File;
use std::process::Command;

use machine::{Fault, Machine, Operation};

use super::{APPLY, FIRST, Site, assert_runs, follow, partition, up};
use crate::operator::{build, power_off};

/// Tries to install the newest release of a channel, which must fail; returns
/// what was told. The first release still runs and would boot again.
fn refused(machine: &mut Machine, channel: &str) -> String {
    follow(machine, channel);
    let output = machine
        .shell("wherry update apply --reboot never 2>&1", APPLY)
        .unwrap();
    assert_ne!(output.exit, 0, "{}", output.text);
    assert_runs(machine, FIRST);
    output.text
}

#[test]
fn a_full_esp_is_told_before_anything_is_fetched() {
    let site = Site::new("update-full-esp");
    fill_esp(&site);
    let mut machine = site.start();
    let told = refused(&mut machine, "service");
    assert!(told.contains("ESP"), "{told}");
    assert_eq!(releases_served(&site), 0);
    super::restart(&mut machine);
    assert_runs(&mut machine, FIRST);
    power_off(machine);
}

#[test]
fn a_slot_that_is_too_small_is_told_before_anything_is_fetched() {
    let site = Site::new("update-small-slot");
    let mut table = gpt::GptConfig::new()
        .writable(true)
        .open(site.disk())
        .unwrap();
    let mut partitions = table.partitions().clone();
    let slot = partitions.get_mut(&4).unwrap();
    slot.last_lba = slot.first_lba + (1 << 20) / 512 - 1;
    table.update_partitions(partitions).unwrap();
    table.write().unwrap();
    let mut machine = site.start();
    let told = refused(&mut machine, "service");
    assert!(told.contains("slot B"), "{told}");
    assert_eq!(releases_served(&site), 0);
    power_off(machine);
}

#[test]
fn a_slot_that_cannot_be_written_or_read_is_told_and_the_running_one_stays() {
    let site = Site::new("update-io-errors");
    let (start, _) = partition(&site.disk(), 4);
    // In the midst of what will be written.
    let sector = (start + (4 << 20)) / 512;
    for operation in [Operation::Write, Operation::Read] {
        let mut machine = site.start_with(|builder| {
            builder.fault(Fault {
                operation,
                sector: Some(sector),
            })
        });
        up(&mut machine);
        let told = refused(&mut machine, "everything");
        assert!(
            told.contains("slot B") || told.contains("I/O error") || told.contains("input/output"),
            "{told}"
        );
        power_off(machine);
    }
    // With a sound disk the same update goes through.
    let mut machine = site.start();
    super::apply(&mut machine, "everything");
    super::restart(&mut machine);
    assert_runs(&mut machine, "2.0");
    power_off(machine);
}

#[test]
fn a_disk_that_cannot_be_written_is_told() {
    let site = Site::new("update-read-only");
    let mut machine = site.start_with(|builder| builder.read_only());
    up(&mut machine);
    // The state is volatile then, and so is the configuration.
    let told = refused(&mut machine, "service");
    assert!(
        told.contains("cannot write") && told.contains("slot B"),
        "{told}"
    );
    power_off(machine);
}

/// How many requests there were for a release's files.
fn releases_served(site: &Site) -> usize {
    let served = site.server.served();
    let of_releases = served.iter().filter(|one| one.path.contains("/releases/"));
    of_releases.count()
}

/// Leaves a few MiB on the ESP: less than a kernel image.
fn fill_esp(site: &Site) {
    let (start, length) = partition(&site.disk(), 1);
    let filler = site.path("filler");
    File::create(&filler)
        .unwrap()
        .set_len(length - (14 << 20))
        .unwrap();
    let image = format!("{}@@{start}", site.disk().display());
    let mut copy: Command = build().tools().unwrap().command("mcopy").unwrap();
    let status = copy
        .args(["-i", &image])
        .arg(&filler)
        .arg("::/filler")
        .status()
        .unwrap();
    assert!(status.success());
}
