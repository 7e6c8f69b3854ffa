//! Real block devices: the kernel's cache, and sectors of 4096 bytes. Needs loop
//! devices, and so user 0.

use std::fs;

use requirement::LoopDevice;
use slots::{Goal, SlotId};
use system_disk::SystemDisk;

use crate::disk::{Content, Stop, disk, drive, state};
use crate::release::Release;

fn image(one: &Release, sector_size: u64) -> Vec<u8> {
    disk(&Content {
        slots: [Some(one), None],
        entries: &[("wherry_1.0.efi", one)],
        loader: one,
        others: 0,
        sector_size,
    })
}

#[test]
fn a_device_node_is_no_different_from_an_image() {
    let (one, two) = (Release::new(1, "257"), Release::new(2, "258"));
    for sector_size in [512, 4096] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        fs::write(&path, image(&one, sector_size)).unwrap();
        let size = sector_size.to_string();
        let Some(device) = LoopDevice::attach(&path, &["--sector-size", &size]) else {
            return;
        };
        let system = SystemDisk::open_path(device.path(), Some(one.root_hash)).unwrap();
        drive(&system, &Goal::Install(two.target()), &two).unwrap();
        let done = state(&system);
        drop((system, device));
        let system = SystemDisk::open_path(&path, Some(one.root_hash)).unwrap();
        assert_eq!(state(&system), done);
        assert_eq!(done.loader, Some(two.loader_version.clone()));
        assert!(system.prove_named(SlotId::B, &mut |_| {}).unwrap());
        assert!(system.esp().findings().is_clean());
    }
}

#[test]
fn a_device_that_is_write_protected_is_told_and_stays_as_it_is() {
    let (one, two) = (Release::new(1, "257"), Release::new(2, "258"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk");
    let before = image(&one, 512);
    fs::write(&path, &before).unwrap();
    let Some(device) = LoopDevice::attach(&path, &["--read-only"]) else {
        return;
    };
    // Some kernels refuse to open it, others to write it.
    let error = match SystemDisk::open_path(device.path(), Some(one.root_hash)) {
        Ok(system) => match drive(&system, &Goal::Install(two.target()), &two) {
            Err(Stop::Disk(error)) => error,
            other => panic!("{other:?}"),
        },
        Err(error) => error,
    };
    assert!(error.to_string().contains("write-protected"), "{error}");
    assert!(fs::read(&path).unwrap() == before);
}
