//! What is refused, and what is read.

use std::io::Write;

use block_device::{BlockDevice, Overlay};
use partition_table::{Sectors, Table, gpt, rewrite};
use release::{RootHash, Sha256Sum};
use slots::{Action, Goal, Label, Proof, Refusal, SlotId, Tries};
use system_disk::{DiskError, SystemDisk};

use crate::disk::{Content, Stop, disk, drive, state};
use crate::release::{Release, pe};

struct Three {
    one: Release,
    two: Release,
    three: Release,
}

impl Three {
    fn new() -> Self {
        Self {
            one: Release::new(1, "257"),
            two: Release::new(2, "257"),
            three: Release::new(3, "258"),
        }
    }

    /// Release 1 in slot A, release 2 in slot B.
    fn disk(&self) -> Vec<u8> {
        disk(&Content {
            slots: [Some(&self.one), Some(&self.two)],
            entries: &[
                ("wherry_1.0.efi", &self.one),
                ("wherry_2.0+7-0.efi", &self.two),
            ],
            loader: &self.one,
            others: 0,
            sector_size: 512,
        })
    }
}

#[test]
fn a_view_says_what_is_on_the_disk() {
    let releases = Three::new();
    let image = releases.disk();
    let device = Overlay::new(&image);
    let system = SystemDisk::open(&device, Some(releases.two.root_hash)).unwrap();
    let view = system.view().unwrap();
    assert_eq!(view.booted_slot(), Some(SlotId::B));
    let label = Label::Release("1.0".parse().unwrap());
    assert_eq!(view.slots[0].label, label);
    assert!(view.slots[0].is_named(&releases.one.root_hash));
    assert_eq!(view.slots[0].proof, Proof::Unknown);
    let guard = view.booted_entry().unwrap();
    assert_eq!(guard.tries, Some(Tries { left: 7, done: 0 }));
    assert_eq!(guard.length, releases.two.uki.len() as u64);
    assert_eq!(view.loader.unwrap().as_str(), "257");
    assert_eq!((view.staged, view.entries.len()), (None, 2));
    assert_eq!(device.now(), image, "looking writes nothing");
}

#[test]
fn nothing_of_the_running_slot_is_written() {
    let releases = Three::new();
    let image = releases.disk();
    let device = Overlay::new(&image);
    let system = SystemDisk::open(&device, Some(releases.two.root_hash)).unwrap();
    let running = system.slot(SlotId::B).unwrap();
    for partition in [&running.data, &running.tree] {
        let error = partition.write_at(&[0; 512], 0).unwrap_err().to_string();
        assert!(
            error.contains("slot B") && error.contains("never written"),
            "{error}"
        );
    }
    let empty = system.perform(&Action::EmptySlot { slot: SlotId::B });
    assert!(matches!(empty, Err(DiskError::Running(SlotId::B))));
    let removal = system.perform(&Action::RemoveEntry {
        file: "wherry_2.0+7-0.efi".to_owned(),
    });
    assert!(
        matches!(removal, Err(DiskError::LastEntry(_))),
        "{removal:?}"
    );
    assert_eq!(device.now(), image);
    let other = system.slot(SlotId::A).unwrap();
    other.data.write_at(&[0; 512], 0).unwrap();
    let end = other.data.length();
    assert!(
        other.data.write_at(&[0; 512], end - 511).is_err(),
        "beyond its end"
    );
}

#[test]
fn a_slot_gets_a_name_only_when_it_was_read_back() {
    let releases = Three::new();
    let image = releases.disk();
    let device = Overlay::new(&image);
    let system = SystemDisk::open(&device, Some(releases.two.root_hash)).unwrap();
    let one = &releases.one;
    let name = Action::NameSlot {
        slot: SlotId::A,
        version: one.version.clone(),
        root_hash: one.root_hash,
    };
    let unproven = |result| matches!(result, Err(DiskError::Unproven { .. }));
    assert!(unproven(system.perform(&name)));
    assert!(system.prove_named(SlotId::A, &mut |_| {}).unwrap());
    system.perform(&name).unwrap();
    // What is written makes the proof void.
    let slot = system.slot(SlotId::A).unwrap();
    slot.data.write_at(&[one.data[5]], 5).unwrap();
    assert_eq!(system.view().unwrap().slots[0].proof, Proof::Unknown);
    assert!(unproven(system.perform(&name)));
    // One bit anywhere is seen, in the data and in each block of the tree.
    for (partition, at) in [(&slot.data, 7000), (&slot.tree, 4096), (&slot.tree, 80)] {
        let mut byte = [0];
        partition.read_at(&mut byte, at).unwrap();
        partition.write_at(&[byte[0] ^ 4], at).unwrap();
        assert!(!system.prove_named(SlotId::A, &mut |_| {}).unwrap());
        assert_eq!(system.view().unwrap().slots[0].proof, Proof::Damaged);
        assert!(unproven(system.perform(&name)));
        partition.write_at(&byte, at).unwrap();
    }
    let mut read = Vec::new();
    let mut progress = |bytes| read.push(bytes);
    assert!(system.prove_named(SlotId::A, &mut progress).unwrap());
    assert_eq!(read.last(), Some(&(one.data.len() as u64)));
}

#[test]
fn an_entry_that_is_no_whole_image_names_no_root() {
    let releases = Three::new();
    let image = releases.disk();
    let device = Overlay::new(&image);
    let system = SystemDisk::open(&device, None).unwrap();
    let uki = &releases.one.uki;
    let without = pe(&[(".linux", &[1; 100])]);
    let other = pe(&[(".cmdline", b"root=/dev/sda1 roothash=12")]);
    for (number, content) in [
        &uki[..uki.len() - 512],
        &uki[..100],
        &[],
        &[0x4d; 5000],
        &without,
        &other,
    ]
    .into_iter()
    .enumerate()
    {
        let file = format!("wherry_9.{number}+3-0.efi");
        let path = format!("EFI/Linux/{file}");
        let mut writer = system.esp().create(&path, content.len() as u64).unwrap();
        writer.write(content).unwrap();
        writer.finish().unwrap();
        let view = system.view().unwrap();
        let entry = view
            .entries
            .iter()
            .find(|entry| entry.file == file)
            .unwrap();
        assert_eq!(entry.root_hash, None, "{number}");
        system.perform(&Action::RemoveEntry { file }).unwrap();
    }
}

#[test]
fn a_kernel_image_that_is_not_the_manifests_is_not_staged() {
    let releases = Three::new();
    let image = releases.disk();
    let device = Overlay::new(&image);
    let system = SystemDisk::open(&device, Some(releases.two.root_hash)).unwrap();
    let before = state(&system);
    let mut stage = system.stage_uki(3).unwrap();
    stage.write_all(b"abc").unwrap();
    assert!(stage.write_all(b"d").is_err(), "more than was said");
    let error = stage.finish(&Sha256Sum([0; 32])).unwrap_err().to_string();
    assert!(error.contains("SHA-256"), "{error}");
    assert_eq!(state(&system), before);
    let mut stage = system.stage_uki(3).unwrap();
    stage.write_all(b"abc").unwrap();
    let abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let abc: Sha256Sum = abc.parse().unwrap();
    stage.finish(&abc).unwrap();
    assert_eq!(system.view().unwrap().staged.unwrap().sha256, abc);
    // Read again by the next run.
    let again = SystemDisk::open(&device, None).unwrap();
    assert_eq!(again.view().unwrap().staged.unwrap().sha256, abc);
    again.perform(&Action::RemoveStaged).unwrap();
    assert_eq!(again.view().unwrap().staged, None);
}

#[test]
fn the_boot_loader_is_never_replaced_by_an_older_one() {
    let releases = Three::new();
    let image = releases.disk();
    let device = Overlay::new(&image);
    let system = SystemDisk::open(&device, None).unwrap();
    assert!(
        !system.update_loader(&releases.two.loader).unwrap(),
        "the same"
    );
    assert!(system.update_loader(&releases.three.loader).unwrap());
    assert_eq!(system.view().unwrap().loader.unwrap().as_str(), "258");
    assert!(!system.update_loader(&releases.one.loader).unwrap());
    assert_eq!(system.view().unwrap().loader.unwrap().as_str(), "258");
    for other in [&b"no loader"[..], &releases.one.uki, &[]] {
        let error = system.update_loader(other).unwrap_err();
        assert!(matches!(error, DiskError::Loader(_)), "{error}");
    }
    // Debian's rebuild of the same is newer, and is then not replaced again.
    let rebuilt = Release::new(3, "258+b1");
    assert!(system.update_loader(&rebuilt.loader).unwrap());
    assert!(!system.update_loader(&rebuilt.loader).unwrap());
    let version = system.view().unwrap().loader.unwrap();
    assert_eq!(version, rebuilt.loader_version);
    // Someone else's loader in firmware's default place stays.
    let shim = pe(&[(".text", b"shim")]);
    let path = "EFI/BOOT/BOOTX64.EFI";
    let mut writer = system.esp().replace(path, shim.len() as u64).unwrap();
    writer.write(&shim).unwrap();
    writer.finish().unwrap();
    let newer = Release::new(4, "259~rc1");
    assert!(system.update_loader(&newer.loader).unwrap());
    let mut found = vec![0; shim.len()];
    system
        .esp()
        .file(path)
        .unwrap()
        .read_at(&mut found, 0)
        .unwrap();
    assert_eq!(found, shim);
}

#[test]
fn what_does_not_fit_is_refused_before_anything_is_written() {
    let releases = Three::new();
    let image = releases.disk();
    let device = Overlay::new(&image);
    let system = SystemDisk::open(&device, Some(releases.two.root_hash)).unwrap();
    let mut large = releases.three.target();
    large.data_length = 1 << 20;
    let refused = drive(&system, &Goal::Install(large), &releases.three);
    assert!(
        matches!(refused, Err(Stop::Refused(Refusal::SlotTooSmall { .. }))),
        "{refused:?}"
    );
    assert_eq!(device.now(), image);
    // A stranger's file fills the ESP.
    let free = system.view().unwrap().esp_free;
    let stranger = free - (1 << 20) + 4096;
    let mut writer = system.esp().create("photo.raw", stranger).unwrap();
    writer.write(&vec![7; stranger as usize]).unwrap();
    writer.finish().unwrap();
    let full = device.now();
    let refused = drive(
        &system,
        &Goal::Install(releases.three.target()),
        &releases.three,
    );
    assert!(
        matches!(refused, Err(Stop::Refused(Refusal::EspFull { .. }))),
        "{refused:?}"
    );
    assert_eq!(device.now(), full);
    // What the ESP itself says, if it was not asked before.
    let free = system.view().unwrap().esp_free;
    let error = system.stage_uki(free + 1).unwrap_err().to_string();
    assert!(
        error.contains("full") && error.contains("remove"),
        "{error}"
    );
}

#[test]
fn what_others_have_changed_in_the_table_stays() {
    let releases = Three::new();
    let image = releases.disk();
    let device = Overlay::new(&image);
    let system = SystemDisk::open(&device, Some(releases.two.root_hash)).unwrap();
    let disk = Sectors {
        device: &device,
        sector_size: 512,
    };
    let table = |change: fn(&mut Table)| {
        let found = gpt::read(&disk).unwrap();
        let mut table = found.valid().unwrap().table.clone();
        change(&mut table);
        rewrite(&disk, &table).unwrap();
    };
    table(|table| table.partition_mut(6).unwrap().set_name("state-new"));
    system
        .perform(&Action::EmptySlot { slot: SlotId::A })
        .unwrap();
    let found = gpt::read(&disk).unwrap();
    let now = &found.valid().unwrap().table;
    assert_eq!(now.partition(6).unwrap().name(), "state-new");
    assert_eq!(now.partition(2).unwrap().name(), "_empty");
    table(|table| {
        let last = table.partition(5).unwrap().last();
        table.partition_mut(5).unwrap().set_last(last - 8);
    });
    let error = system.view().unwrap_err();
    assert!(matches!(error, DiskError::Layout(_)), "{error}");
}

#[test]
fn a_disk_of_another_kind_is_told() {
    let blank = vec![0; 1 << 20];
    let error = SystemDisk::open(Overlay::new(&blank), None).unwrap_err();
    assert!(matches!(error, DiskError::NoTable), "{error}");
    assert!(SystemDisk::open(Overlay::new(&[]), None).is_err());
    let releases = Three::new();
    let image = releases.disk();
    let cut = &image[..image.len() / 2];
    let error = SystemDisk::open(Overlay::new(cut), None).unwrap_err();
    assert!(matches!(error, DiskError::Layout(_)), "{error}");
    // A lost primary table: the back-up counts, and the next change restores it.
    let mut torn = image.clone();
    torn[512..1024].fill(0);
    let device = Overlay::new(&torn);
    let system = SystemDisk::open(&device, Some(releases.two.root_hash)).unwrap();
    system
        .perform(&Action::EmptySlot { slot: SlotId::A })
        .unwrap();
    assert_eq!(&device.now()[512..520], b"EFI PART");
    // Nothing that runs is on this disk: nothing is done.
    let system = SystemDisk::open(&device, Some(RootHash([9; 32]))).unwrap();
    let refused = drive(
        &system,
        &Goal::Install(releases.three.target()),
        &releases.three,
    );
    assert!(matches!(refused, Err(Stop::Refused(Refusal::NotFromSlot))));
}
