//! The partition table under power cuts.
#![allow(clippy::unwrap_used, clippy::expect_used)] // All of it is a test.

use std::fs;

use block_device::{BlockDevice, Overlay, Recorder};
use layout::partition;
use partition_table::gpt::{self, Found, HeaderPlace, PRIMARY, PRIMARY_ARRAY};
use partition_table::rewrite::{self, Step, Surroundings};
use partition_table::{Entry, Sectors, Table, rewrite as bring};

const MIB: u64 = 1 << 20;
const OLD: u64 = 2 * MIB;
const NEW: u64 = 3 * MIB;
/// Where the second partition begins, in bytes.
const SLOT: u64 = MIB + MIB / 2;

/// A table for a disk of `size` bytes with a partition before [`SLOT`] and one
/// of 100 KiB there.
fn table(size: u64, sector_size: u64) -> Table {
    let mut table = Table {
        sector_size,
        disk_guid: [0x33; 16],
        first_usable: MIB / sector_size,
        last_usable: 0,
        entries: vec![Entry::UNUSED; 128],
    };
    table.last_usable = size / sector_size - 2 - table.array_sectors();
    let slot = SLOT / sector_size;
    table.entries[0] = Entry::new(partition::ESP, [1; 16], table.first_usable, slot - 1, "esp");
    table.entries[1] = Entry::new(partition::ROOT, [2; 16], slot, slot + 24, "_empty");
    table
}

/// The content of a disk with both copies of a table where they belong.
fn image(table: &Table, size: u64) -> Vec<u8> {
    let mut content = vec![0; size as usize];
    let mut put = |sector: u64, bytes: &[u8]| {
        let at = (sector * table.sector_size) as usize;
        content[at..at + bytes.len()].copy_from_slice(bytes);
    };
    let last = size / table.sector_size - 1;
    for (own, other, array) in [
        (PRIMARY, last, PRIMARY_ARRAY),
        (last, PRIMARY, last - table.array_sectors()),
    ] {
        put(array, &table.array());
        put(own, &table.header(HeaderPlace { own, other, array }));
    }
    content[446 + 4] = 0xee;
    content[446 + 8] = 1;
    content[446 + 12..446 + 16].copy_from_slice(&(last as u32).to_le_bytes());
    content[510..512].copy_from_slice(&[0x55, 0xaa]);
    content
}

/// What an interrupted run does again: from the table on the disk to the wanted
/// one, on a disk of this many sectors.
type Change = fn(&Table, u64) -> Table;

/// The disk has grown, and a partition with it.
fn grow(table: &Table, sectors: u64) -> Table {
    let mut grown = table.clone();
    grown.last_usable = sectors - 2 - table.array_sectors();
    let last = grown.last_usable;
    grown.partition_mut(2).unwrap().set_last(last);
    grown
}

/// A slot gets a release: other ids and names.
fn name(table: &Table, _: u64) -> Table {
    let mut named = table.clone();
    for number in [1, 2] {
        let partition = named.partition_mut(number).unwrap();
        partition.set_id([number as u8 + 7; 16]);
        partition.set_name(&format!("wherry_{number}.0"));
    }
    named
}

/// Which sectors of a write can have reached the disk when the power failed:
/// none, all, or some of them in any order.
const PARTS: [fn(usize, usize) -> bool; 5] = [
    |_, _| false,
    |_, _| true,
    |index, count| index < count / 2,
    |index, count| index >= count / 2,
    |index, _| index % 2 == 0,
];

/// Calls `check` with every disk that a power cut during `steps` can leave: for
/// each write between two barriers, each of its [`PARTS`] with each of the
/// others'.
fn cuts(start: &[u8], sector_size: u64, steps: &[Step], mut check: impl FnMut(&[u8])) -> usize {
    let mut count = 0;
    let mut certain = start.to_vec();
    for group in steps.split(|step| *step == Step::Barrier) {
        for choice in 0..PARTS.len().pow(group.len() as u32) {
            let mut disk = certain.clone();
            let mut choice = choice;
            for step in group {
                let part = PARTS[choice % PARTS.len()];
                choice /= PARTS.len();
                put(&mut disk, sector_size, step, part);
            }
            count += 1;
            check(&disk);
        }
        for step in group {
            put(&mut certain, sector_size, step, |_, _| true);
        }
    }
    count
}

fn put(disk: &mut [u8], sector_size: u64, step: &Step, part: fn(usize, usize) -> bool) {
    let Step::Write { sector, bytes } = step else {
        return;
    };
    let size = sector_size as usize;
    for (index, sector_bytes) in bytes.chunks(size).enumerate() {
        if part(index, bytes.len() / size) {
            let at = (*sector as usize + index) * size;
            disk[at..at + size].copy_from_slice(sector_bytes);
        }
    }
}

/// Cuts the power at every point on the way from `content` to its changed
/// table.
fn explore(
    content: &[u8],
    sector_size: u64,
    change: Change,
    mut judge: impl FnMut(&Found),
) -> usize {
    let device = Recorder::with_sectors(content.to_vec(), sector_size as usize);
    let disk = Sectors {
        device: &device,
        sector_size,
    };
    let found = gpt::read(&disk).unwrap();
    let old = found.valid().unwrap().table.clone();
    let wanted = change(&old, disk.count());
    let gap = PRIMARY_ARRAY + old.array_sectors();
    let steps = rewrite::steps(
        &found,
        &Surroundings {
            sectors: disk.count(),
            mbr: disk.read(0, 1).unwrap(),
            home: PRIMARY_ARRAY,
            spare: Some(gap).filter(|_| old.first_usable > gap + old.array_sectors()),
        },
        &wanted,
    );
    assert!(!steps.is_empty());
    assert!(bring(&disk, &wanted).unwrap());
    let rest = disk.read(gap, MIB / sector_size - gap).unwrap();
    assert!(rest.iter().all(|byte| *byte == 0), "the spare place stays");
    let mut check = |content: &[u8]| {
        let device = Overlay::new(content);
        let disk = Sectors {
            device: &device,
            sector_size,
        };
        let found = gpt::read(&disk).unwrap();
        let valid = &found
            .valid()
            .expect("no valid table after a power cut")
            .table;
        judge(&found);
        assert!(
            valid.entries == old.entries || valid.entries == wanted.entries,
            "something between the two"
        );
        // The next run decides again from what it finds, with the same result.
        let again = change(valid, disk.count());
        assert_eq!(again, wanted);
        bring(&disk, &again).unwrap();
        let done = gpt::read(&disk).unwrap();
        for copy in [done.primary, done.backup] {
            assert_eq!(copy.unwrap().table, wanted);
        }
        assert!(!bring(&disk, &again).unwrap(), "nothing is left to do");
    };
    cuts(content, sector_size, &steps, &mut check) + device.cuts(|_, content| check(content))
}

fn grown(sector_size: u64) -> Vec<u8> {
    let mut content = image(&table(OLD, sector_size), OLD);
    content.resize(NEW as usize, 0);
    content
}

#[test]
fn the_primary_table_is_valid_at_every_moment() {
    for sector_size in [512, 4096] {
        let primary_is_valid = |found: &Found| assert!(found.primary.is_some());
        let growing = explore(&grown(sector_size), sector_size, grow, primary_is_valid);
        let content = image(&table(OLD, sector_size), OLD);
        let naming = explore(&content, sector_size, name, primary_is_valid);
        println!("sectors of {sector_size}: {growing} and {naming} points");
        assert!(growing > 40 && naming > 40);
    }
}

#[test]
fn without_a_spare_place_one_of_the_copies_is_valid_at_every_moment() {
    let mut tight = table(OLD, 512);
    tight.first_usable = 34;
    let mut content = image(&tight, OLD);
    explore(&content, 512, name, |_| {});
    content.resize(NEW as usize, 0);
    explore(&content, 512, grow, |_| {});
}

#[test]
fn a_lost_primary_is_restored_from_the_backup_before_anything_else() {
    let mut content = image(&table(NEW, 512), NEW);
    content[512..1024].fill(0xff);
    explore(&content, 512, grow, |_| {});
    explore(&content, 512, name, |_| {});
}

#[test]
fn a_table_whose_array_is_torn_is_not_valid() {
    let mut content = image(&table(OLD, 512), OLD);
    content[PRIMARY_ARRAY as usize * 512 + 300] = 0x5a;
    let device = Overlay::new(&content);
    let found = gpt::read(&Sectors {
        device,
        sector_size: 512,
    })
    .unwrap();
    assert_eq!(found.primary, None);
    assert_eq!(found.backup.unwrap().table, table(OLD, 512));
}

#[test]
fn garbage_in_a_header_is_no_table() {
    let content = image(&table(OLD, 512), OLD);
    for byte in 0..92 {
        let device = Overlay::new(&content);
        let damaged = content[512 + byte] ^ 0x81;
        device.write_at(&[damaged], 512 + byte as u64).unwrap();
        let found = gpt::read(&Sectors {
            device,
            sector_size: 512,
        });
        assert_eq!(found.unwrap().primary, None, "byte {byte}");
    }
}

#[test]
fn an_array_that_someone_has_moved_stays_where_it_is() {
    let moved = table(NEW, 512);
    let mut content = image(&moved, NEW);
    let place = HeaderPlace {
        own: 1,
        other: NEW / 512 - 1,
        array: 1024,
    };
    content[1024 * 512..][..moved.array().len()].copy_from_slice(&moved.array());
    content[512..1024].copy_from_slice(&moved.header(place));
    let loader = [0xeb; 32 * 512];
    content[1024..1024 + loader.len()].copy_from_slice(&loader);
    let device = Overlay::new(&content);
    let disk = Sectors {
        device,
        sector_size: 512,
    };
    let wanted = name(&moved, disk.count());
    assert!(bring(&disk, &wanted).unwrap());
    let primary = gpt::read(&disk).unwrap().primary.unwrap();
    assert_eq!((primary.place, primary.table), (place, wanted));
    assert_eq!(disk.read(2, 32).unwrap(), loader);
}

#[test]
fn a_partition_that_is_not_there_is_not_found() {
    let mut table = table(OLD, 512);
    let roots: Vec<u32> = table
        .of_type(partition::ROOT)
        .map(|(number, _)| number)
        .collect();
    assert_eq!(roots, [2]);
    assert_eq!(table.of_type(partition::ROOT_VERITY).count(), 0);
    assert_eq!(table.of_type([0; 16]).count(), 0, "unused places");
    assert_eq!(table.partition(1).unwrap().name(), "esp");
    for number in [0, 3, 128, 129, u32::MAX] {
        assert_eq!(table.partition(number), None);
        assert!(table.partition_mut(number).is_none());
    }
}

#[test]
fn another_implementation_reads_the_same_table() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    fs::write(&path, grown(512)).unwrap();
    let file = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let disk = Sectors {
        device: block_device::Disk::new(file).unwrap(),
        sector_size: 512,
    };
    let mut wanted = grow(&table(OLD, 512), disk.count());
    let tree = 0x0011_2233_4455_6677_8899_aabb_ccdd_eeff_u128.to_be_bytes();
    wanted.entries[2] = Entry::new(partition::ROOT_VERITY, [3; 16], 2050, 2051, "");
    wanted.entries[3] = Entry::new(partition::LINUX_GENERIC, [4; 16], 2060, 2061, "state");
    let partition = wanted.partition_mut(3).unwrap();
    partition.set_id(tree);
    partition.set_name("wherry_1.0");
    bring(&disk, &wanted).unwrap();

    let read = gpt_library::GptConfig::new()
        .writable(false)
        .open(&path)
        .unwrap();
    assert_eq!(read.primary_header().unwrap().backup_lba, NEW / 512 - 1);
    assert_eq!(read.backup_header().unwrap().backup_lba, 1);
    let partitions = read.partitions();
    assert_eq!(partitions[&2].last_lba, wanted.entries[1].last());
    assert_eq!(partitions[&3].name, "wherry_1.0");
    assert_eq!(
        partitions[&3].part_guid.to_string(),
        "00112233-4455-6677-8899-aabbccddeeff"
    );
    for (number, kind) in [
        (1, gpt_library::partition_types::EFI),
        (2, gpt_library::partition_types::LINUX_ROOT_X64),
        (4, gpt_library::partition_types::LINUX_FS),
    ] {
        assert_eq!(partitions[&number].part_type_guid, kind);
    }
    // The library has no name for it.
    assert_eq!(
        partitions[&3].part_type_guid.guid.to_string(),
        "2c7357ed-ebd2-46d9-aec1-23d437ec2bf5"
    );
}
