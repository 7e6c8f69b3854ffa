//! Disks that fail.

use std::error::Error;
use std::io;

use block_device::{Failing, Overlay};
use slots::{Goal, SlotId};
use system_disk::SystemDisk;

use crate::disk::{Content, Stop, disk, drive, state};
use crate::release::Release;

/// All of an error, as a person sees it.
fn text(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

#[test]
fn a_disk_that_fails_leaves_the_running_release_and_can_be_gone_on_with() {
    let one = Release::new(1, "257");
    let two = Release::new(2, "258");
    let image = disk(&Content {
        slots: [Some(&one), None],
        entries: &[("wherry_1.0.efi", &one)],
        loader: &one,
        others: 0,
        sector_size: 512,
    });
    let goal = Goal::Install(two.target());
    let booted = Some(one.root_hash);
    let whole = Overlay::new(&image);
    let system = SystemDisk::open(&whole, booted).unwrap();
    drive(&system, &goal, &two).unwrap();
    let wanted = state(&system);
    let mut failures = 0;
    for left in 0.. {
        let device = Overlay::new(&image);
        let failing = Failing::new(&device);
        failing.fail_after(Some(left));
        let system = SystemDisk::open(&failing, booted).unwrap();
        let result = drive(&system, &goal, &two);
        let again = SystemDisk::open(&device, booted).unwrap();
        assert!(again.prove_named(SlotId::A, &mut |_| {}).unwrap());
        drive(&again, &goal, &two).unwrap();
        assert_eq!(
            (state(&again).entries, state(&again).slots),
            (wanted.entries.clone(), wanted.slots.clone())
        );
        match result {
            Ok(_) => break,
            Err(Stop::Disk(error)) => {
                failures += 1;
                let text = text(&error);
                assert!(text.contains(Failing::<()>::MESSAGE), "{text}");
                let named = ["partition", "slot", "kernel image"];
                assert!(named.iter().any(|name| text.contains(name)), "{text}");
            }
            Err(stop) => panic!("{stop:?}"),
        }
    }
    println!("{failures} writes and flushes failed");
    assert!(failures > 50);
}

#[test]
fn a_disk_that_is_write_protected_is_told() {
    let one = Release::new(1, "257");
    let two = Release::new(2, "257");
    let image = disk(&Content {
        slots: [Some(&one), None],
        entries: &[("wherry_1.0.efi", &one)],
        loader: &one,
        others: 0,
        sector_size: 512,
    });
    let device = Overlay::new(&image);
    let failing = Failing::with_kind(&device, io::ErrorKind::ReadOnlyFilesystem);
    failing.fail_after(Some(0));
    let system = SystemDisk::open(&failing, Some(one.root_hash)).unwrap();
    let Err(Stop::Disk(error)) = drive(&system, &Goal::Install(two.target()), &two) else {
        panic!("it was written");
    };
    let text = text(&error);
    assert!(text.contains("write-protected"), "{text}");
    assert_eq!(device.now(), image);
}
