//! What becomes of the partition.
//!
//! These need loop devices, and so user 0.

use std::fs;

use layout::partition;
use partition_table::gpt::{self, Entry};

use super::image::{GREETING, Image, MIB, STATE, table};
use crate::content::{self, Content};
use crate::report::Outcome;
use crate::table;

/// Large enough for one copy of the superblock, at 128 MiB.
const DISK: u64 = 160 * MIB;

/// An image whose state partition fills the disk and holds a greeting.
fn whole() -> Image {
    let image = Image::new(DISK, DISK - STATE - MIB);
    image.fill_state(DISK - STATE - MIB);
    image
}

/// Bytes without any order, always the same.
fn garbage(length: usize) -> Vec<u8> {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        })
        .collect()
}

#[test]
fn a_whole_and_sound_partition_is_left_alone() {
    let image = whole();
    let before = fs::read(image.path()).unwrap();
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Clean, "{report:?}");
    assert_eq!(report.size, Some(DISK - STATE - MIB));
    assert!(report.device.unwrap().ends_with("p2"));
    assert!(before == fs::read(image.path()).unwrap());
}

#[test]
fn the_partition_grows_with_the_disk() {
    let image = Image::new(70 * MIB, 64 * MIB);
    image.fill_state(64 * MIB);
    image.grow(DISK);
    let Some(report) = image.prepare(|request| request.partition = Some(2)) else {
        return;
    };
    assert_eq!(report.result, Outcome::Changed, "{report:?}");
    assert_eq!(report.size, Some(DISK - STATE - MIB));
    assert_eq!(image.greeting(), GREETING);
    let report = image.prepare(|_| {}).unwrap();
    assert_eq!(report.result, Outcome::Clean, "{report:?}");
}

#[test]
fn a_disk_with_large_sectors_is_no_different() {
    let image = Image::with_large_sectors(70 * MIB, 64 * MIB);
    image.fill_state(64 * MIB);
    image.grow(DISK);
    let Some(report) = image.prepare(|request| request.partition = Some(2)) else {
        return;
    };
    assert_eq!(report.result, Outcome::Changed, "{report:?}");
    assert_eq!(report.size, Some(DISK - STATE - MIB));
    assert_eq!(image.greeting(), GREETING);
    assert_eq!(image.prepare(|_| {}).unwrap().result, Outcome::Clean);
}

#[test]
fn an_empty_partition_gets_a_file_system() {
    let image = Image::new(70 * MIB, 64 * MIB);
    image.grow(DISK);
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Made, "{report:?}");
    assert_eq!(report.size, Some(DISK - STATE - MIB));
    assert_eq!(image.greeting(), "");
    let report = image.prepare(|_| {}).unwrap();
    assert_eq!(report.result, Outcome::Clean, "{report:?}");
}

#[test]
fn a_missing_partition_is_made() {
    let image = Image::new(DISK, 0);
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Made, "{report:?}");
    assert_eq!(report.size, Some(DISK - STATE - MIB));
    assert_eq!(image.greeting(), "");
}

#[test]
fn a_lost_entry_is_given_back_with_its_data() {
    let image = whole();
    image.write_table(&table(DISK, 0));
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Changed, "{report:?}");
    assert_eq!(image.greeting(), GREETING);
}

#[test]
fn data_in_unused_space_is_not_written_over() {
    let image = whole();
    image.write_table(&table(DISK, 0));
    image.write(STATE + 1024, &[0; 1024]);
    image.write(STATE, b"XFSB");
    let before = fs::read(image.path()).unwrap();
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Foreign, "{report:?}");
    assert!(before == fs::read(image.path()).unwrap());
    let report = image.prepare(|request| request.erase = true).unwrap();
    assert_eq!(report.result, Outcome::Made, "{report:?}");
}

#[test]
fn a_file_system_half_made_is_made_again() {
    let image = whole();
    let mut unfinished = table(DISK, DISK - STATE - MIB);
    table::rename(&mut unfinished, 2, partition::STATE_UNFINISHED);
    image.write_table(&unfinished);
    image.write(STATE + 8192, &garbage(100_000));
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Made, "{report:?}");
    assert_eq!(image.greeting(), "");
}

#[test]
fn a_lost_superblock_is_restored_from_its_copy() {
    let image = whole();
    image.write(STATE, &[0; 4096]);
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Changed, "{report:?}");
    assert_eq!(image.greeting(), GREETING);
}

#[test]
fn garbage_over_the_beginning_is_repaired_from_a_copy() {
    let image = whole();
    image.write(STATE, &garbage(MIB as usize));
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Changed, "{report:?}");
    // What was in the first inode table is gone, but the file system is clean.
    image.greeting();
}

#[test]
fn an_error_that_the_kernel_has_noted_is_repaired() {
    let image = whole();
    // s_state: valid, with errors; and an inode that is not what it should be.
    image.debugfs("set_super_value state 3");
    image.debugfs("set_inode_field greeting links_count 9");
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Changed, "{report:?}");
    assert_eq!(image.greeting(), GREETING);
}

#[test]
fn damage_beyond_repair_is_told_and_erased_only_by_policy() {
    let image = whole();
    // Of the superblock the magic number is left, and nothing of its copy.
    let mut superblock = [0; 1024];
    superblock[0x38..0x3a].copy_from_slice(&[0x53, 0xef]);
    image.write(STATE, &garbage(MIB as usize));
    image.write(STATE + 1024, &superblock);
    image.write(STATE + 128 * MIB, &[0; 4096]);
    let Some(report) = image.prepare(|_| {}) else {
        return;
    };
    assert_eq!(report.result, Outcome::Unrepairable, "{report:?}");
    assert!(report.notes[0].contains("wherry.state=erase"), "{report:?}");
    let report = image.prepare(|request| request.erase = true).unwrap();
    assert_eq!(report.result, Outcome::Made, "{report:?}");
    assert_eq!(image.greeting(), "");
}

#[test]
fn other_data_is_not_touched() {
    type Change = fn(&Image);
    let others: [(&str, Change); 4] = [
        ("XFS", |image| image.write(STATE, b"XFSB")),
        ("Btrfs", |image| image.write(STATE + 0x1_0040, b"_BHRfS_M")),
        ("LUKS", |image| image.write(STATE, b"LUKS\xba\xbe\x00\x02")),
        ("an unknown form", |image| {
            image.write(STATE, &garbage(MIB as usize))
        }),
    ];
    for (kind, change) in others {
        let image = Image::new(70 * MIB, 64 * MIB);
        change(&image);
        image.grow(DISK);
        let before = fs::read(image.path()).unwrap();
        let Some(report) = image.prepare(|request| request.full_check = true) else {
            return;
        };
        assert_eq!(report.result, Outcome::Foreign, "{report:?}");
        assert!(report.notes[0].contains(kind), "{report:?}");
        assert!(before == fs::read(image.path()).unwrap(), "{kind}");
        let report = image.prepare(|request| request.erase = true).unwrap();
        assert_eq!(report.result, Outcome::Made, "{report:?}");
        assert_eq!(image.greeting(), "");
    }
}

#[test]
fn a_lost_primary_table_is_restored() {
    let image = whole();
    image.write(0, &[0; 34 * 512]);
    let Some(report) = image.prepare(|request| request.partition = Some(2)) else {
        return;
    };
    assert_eq!(report.result, Outcome::Changed, "{report:?}");
    assert!(gpt::read(&image.disk()).unwrap().primary.is_some());
    assert_eq!(image.greeting(), GREETING);
}

#[test]
fn a_disk_that_cannot_be_used_is_told_and_left_alone() {
    let none = Image::blank(DISK);
    let full = Image::new(DISK, 0);
    let mut taken = table(DISK, 0);
    taken.entries[5] = Entry::new([9; 16], [9; 16], STATE / 512, DISK / 512 - 34, "data");
    full.write_table(&taken);
    let other = whole();
    for (image, number, words) in [
        (&none, None, "no valid GUID partition table"),
        (&full, None, "no room"),
        (&other, Some(7), "reboot"),
    ] {
        let before = fs::read(image.path()).unwrap();
        let Some(report) = image.prepare(|request| request.partition = number) else {
            return;
        };
        assert_eq!(report.result, Outcome::Table, "{report:?}");
        assert!(report.notes.last().unwrap().contains(words), "{report:?}");
        assert!(before == fs::read(image.path()).unwrap());
    }
}

#[test]
fn a_cleared_partition_is_empty_whatever_was_in_it() {
    let image = whole();
    let disk = image.disk();
    let length = DISK - STATE - MIB;
    let examine = || content::examine(disk.device.file(), STATE, length).unwrap();
    assert!(matches!(examine(), Content::Ext4(superblock) if superblock.label == partition::STATE));
    image.write(STATE, &[0; 4096]);
    assert_eq!(
        examine(),
        Content::Ext4Damaged {
            copies: vec![(32768, 4096)],
        }
    );
    content::clear(disk.device.file(), STATE, length).unwrap();
    assert_eq!(examine(), Content::Empty);
}
