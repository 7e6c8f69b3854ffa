//! The image that was built. `cargo xtask test` runs this once there is one.

use std::fs::{self, OpenOptions};
use std::process::Command;

use block_device::BlockDevice;
use machine::Build;
use slots::{Goal, Label, SlotId, Tries};
use system_disk::SystemDisk;

use crate::disk::{drive, state};
use crate::release::Release;

#[test]
fn the_built_image_is_a_system_disk() {
    let built = Build::from_env().and_then(|build| Ok((build.disk_image()?, build.tools()?)));
    let (image, tools) = match built {
        Ok(built) => built,
        Err(error) => {
            requirement::skip(error);
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("disk");
    let copied = Command::new("cp")
        .arg("--sparse=always")
        .args([&image, &copy])
        .status();
    assert!(copied.unwrap().success());

    let open = |booted| SystemDisk::open_path(&copy, booted).unwrap();
    let system = open(None);
    let findings = system.esp().findings();
    assert!(findings.is_clean(), "{findings:?}");
    let view = system.view().unwrap();
    let entry = &view.entries[0];
    let running = entry.root_hash.expect("the kernel image names no root");
    assert_eq!(view.slot_of(&running), Some(SlotId::A));
    assert_eq!(view.slots[0].label, Label::Release(entry.version.clone()));
    assert_eq!(view.slots[1].label, Label::Empty);
    let loader = view.loader.clone().expect("no boot loader");
    assert!(system.prove_named(SlotId::A, &mut |_| {}).unwrap());

    // A release goes into the other slot, and is good.
    let (loader, version) = (loader.as_str(), entry.version.clone());
    let new = Release::new(200, &format!("{loader}.1"));
    let system = open(Some(running));
    drive(&system, &Goal::Install(new.target()), &new).unwrap();
    let view = state(&system);
    let entry = view.entries.iter().find(|entry| entry.version != version);
    assert_eq!(entry.unwrap().tries, Some(Tries { left: 3, done: 0 }));
    let system = open(Some(new.root_hash));
    drive(&system, &Goal::Bless, &new).unwrap();
    assert!(open(None).esp().findings().is_clean());

    // What others say about it.
    let esp = system.esp().device();
    let mut bytes = vec![0; esp.length() as usize];
    esp.read_at(&mut bytes, 0).unwrap();
    let file = folder.path().join("esp");
    fs::write(&file, bytes).unwrap();
    for (program, argument, path) in [("fsck.vfat", "-n", &file), ("sfdisk", "--verify", &copy)] {
        let mut command = tools.command(program).unwrap();
        let output = command.arg(argument).arg(path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{program}: {said}");
    }

    // One bit of the running slot is seen.
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&copy)
        .unwrap();
    let disk = block_device::Disk::new(file).unwrap();
    let system = open(None);
    let start = 129 << 20;
    let mut byte = [0];
    disk.read_at(&mut byte, start).unwrap();
    disk.write_at(&[byte[0] ^ 1], start).unwrap();
    assert!(!system.prove_named(SlotId::A, &mut |_| {}).unwrap());
}
