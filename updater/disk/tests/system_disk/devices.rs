//! Real block devices: the kernel's cache, and sectors of 4096 bytes. Needs loop
//! devices, and so user 0.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use slots::{Goal, SlotId};
use system_disk::SystemDisk;

use crate::disk::{Content, Stop, disk, drive, state};
use crate::release::Release;

/// A loop device, detached when dropped.
struct Loop(PathBuf);

impl Loop {
    fn attach(image: &Path, arguments: &[&str]) -> Option<Self> {
        let output = Command::new("/usr/sbin/losetup")
            .args(["--find", "--show"])
            .args(arguments)
            .arg(image)
            .output()
            .ok()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("no loop device, so this test shows nothing: {why}");
            return None;
        }
        let path = String::from_utf8(output.stdout).unwrap();
        Some(Self(path.trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("/usr/sbin/losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
        assert!(detached.is_ok_and(|status| status.success()));
    }
}

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
        let Some(device) = Loop::attach(&path, &["--sector-size", &size]) else {
            return;
        };
        let system = SystemDisk::open_path(&device.0, Some(one.root_hash)).unwrap();
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
    let Some(device) = Loop::attach(&path, &["--read-only"]) else {
        return;
    };
    // Some kernels refuse to open it, others to write it.
    let error = match SystemDisk::open_path(&device.0, Some(one.root_hash)) {
        Ok(system) => match drive(&system, &Goal::Install(two.target()), &two) {
            Err(Stop::Disk(error)) => error,
            other => panic!("{other:?}"),
        },
        Err(error) => error,
    };
    assert!(error.to_string().contains("write-protected"), "{error}");
    assert!(fs::read(&path).unwrap() == before);
}
