//! The partition table and the power.

use std::collections::BTreeMap;

use super::image::{Image, MIB, STATE, table};
use crate::gpt::{self, PRIMARY_ARRAY, Table};
use crate::layout;
use crate::rewrite::{self, Step, Surroundings};

const OLD: u64 = 8 * MIB;
const NEW: u64 = 12 * MIB;

/// The sectors of a disk that are not zero.
type Sectors = BTreeMap<u64, Vec<u8>>;

fn sectors(image: &Image) -> Sectors {
    let length = image.disk().sectors * 512;
    image
        .read(0, length)
        .chunks(512)
        .enumerate()
        .filter(|(_, bytes)| bytes.iter().any(|byte| *byte != 0))
        .map(|(sector, bytes)| (sector as u64, bytes.to_vec()))
        .collect()
}

fn image_of(sectors: &Sectors, size: u64) -> Image {
    let image = Image::blank(size);
    for (sector, bytes) in sectors {
        image.write(sector * 512, bytes);
    }
    image
}

/// What of a write's sectors can have reached the disk when the power went:
/// none, all, or some of them in whatever order.
const PARTS: [fn(usize, usize) -> bool; 5] = [
    |_, _| false,
    |_, _| true,
    |index, count| index < count / 2,
    |index, count| index >= count / 2,
    |index, _| index % 2 == 0,
];

/// Every disk that a power cut during `steps` can leave.
fn cuts(start: &Sectors, steps: &[Step]) -> Vec<Sectors> {
    let mut all = Vec::new();
    let mut certain = start.clone();
    for group in steps.split(|step| *step == Step::Barrier) {
        let mut possible = vec![certain.clone()];
        for step in group {
            let Step::Write { sector, bytes } = step else {
                continue;
            };
            let count = bytes.len() / 512;
            possible = possible
                .iter()
                .flat_map(|disk| {
                    PARTS.iter().map(|part| {
                        let mut disk = disk.clone();
                        for (index, bytes) in bytes.chunks(512).enumerate() {
                            if part(index, count) {
                                disk.insert(sector + index as u64, bytes.to_vec());
                            }
                        }
                        disk
                    })
                })
                .collect();
            for (index, bytes) in bytes.chunks(512).enumerate() {
                certain.insert(sector + index as u64, bytes.to_vec());
            }
        }
        possible.dedup();
        all.extend(possible);
    }
    all
}

/// Plans the way from `image` to its grown table.
fn plan(image: &Image) -> (Vec<Step>, Table) {
    let disk = image.disk();
    let found = gpt::read(&disk).unwrap();
    let mut table = layout::fitted(&found.valid().unwrap().table, disk.sectors).unwrap();
    layout::grow(&mut table, 2);
    let surroundings = Surroundings {
        sectors: disk.sectors,
        mbr: disk.read(0, 1).unwrap(),
        home: PRIMARY_ARRAY,
        spare: Some(34).filter(|_| table.first_usable > 66),
    };
    (rewrite::steps(&found, &surroundings, &table), table)
}

/// Cuts the power everywhere on the way from `image` to its grown table.
fn explore(image: &Image, mut judge: impl FnMut(&gpt::Found)) -> usize {
    let (steps, table) = plan(image);
    let size = image.disk().sectors * 512;
    assert!(!steps.is_empty());
    let whole = image_of(&sectors(image), size);
    assert!(rewrite::rewrite(&whole.disk(), &table).unwrap());
    let spare = whole.read(34 * 512, (2048 - 34) * 512);
    assert!(spare.iter().all(|byte| *byte == 0), "the spare place stays");
    let cuts = cuts(&sectors(image), &steps);
    for cut in &cuts {
        let image = image_of(cut, size);
        let disk = image.disk();
        let found = gpt::read(&disk).unwrap();
        let valid = found.valid().expect("no valid table after a power cut");
        judge(&found);
        // The next run decides anew from what it finds, and ends the same.
        let mut again = layout::fitted(&valid.table, disk.sectors).unwrap();
        layout::grow(&mut again, 2);
        assert_eq!(again, table);
        rewrite::rewrite(&disk, &again).unwrap();
        let done = gpt::read(&disk).unwrap();
        for copy in [done.primary, done.backup] {
            assert_eq!(copy.unwrap().table, table);
        }
        assert!(!rewrite::rewrite(&disk, &again).unwrap(), "nothing is left");
    }
    cuts.len()
}

fn grown() -> Image {
    let image = Image::new(OLD, OLD - STATE - 2 * MIB);
    image.grow(NEW);
    image
}

#[test]
fn the_primary_table_is_valid_at_every_moment() {
    let cuts = explore(&grown(), |found| assert!(found.primary.is_some()));
    assert!(cuts > 40, "{cuts} moments");
}

#[test]
fn without_a_spare_place_one_of_the_copies_is_valid_at_every_moment() {
    let image = grown();
    let mut tight = table(OLD, OLD - STATE - 2 * MIB);
    tight.first_usable = 34;
    image.grow(OLD);
    image.write_table(&tight);
    image.grow(NEW);
    explore(&image, |_| {});
}

#[test]
fn a_lost_primary_is_restored_from_the_backup_before_anything_else() {
    // Its back-up is at the end of the disk, the partition not yet.
    let image = Image::new(NEW, 2 * MIB);
    image.write(512, &[0xff; 512]);
    explore(&image, |_| {});
}

#[test]
fn a_table_whose_array_is_torn_is_not_valid() {
    let image = Image::new(OLD, MIB);
    image.write(PRIMARY_ARRAY * 512 + 300, &[0x5a]);
    let found = gpt::read(&image.disk()).unwrap();
    assert_eq!(found.primary, None);
    assert_eq!(found.backup.unwrap().table, table(OLD, MIB));
}

#[test]
fn garbage_in_a_header_is_no_table() {
    let image = Image::new(OLD, MIB);
    let header = image.read(512, 512);
    for byte in 0..92 {
        let mut damaged = header.clone();
        damaged[byte] ^= 0x81;
        image.write(512, &damaged);
        assert_eq!(
            gpt::read(&image.disk()).unwrap().primary,
            None,
            "byte {byte}"
        );
    }
}

#[test]
fn an_array_that_someone_has_moved_stays_where_it_is() {
    let image = Image::new(NEW, MIB);
    let moved = table(NEW, MIB);
    let place = gpt::HeaderPlace {
        own: 1,
        other: NEW / 512 - 1,
        array: 1024,
    };
    image.write(1024 * 512, &moved.array());
    image.write(512, &moved.header(place));
    let loader = [0xeb; 32 * 512];
    image.write(1024, &loader);
    let mut wanted = moved.clone();
    layout::grow(&mut wanted, 2);
    assert!(rewrite::rewrite(&image.disk(), &wanted).unwrap());
    let primary = gpt::read(&image.disk()).unwrap().primary.unwrap();
    assert_eq!((primary.place, primary.table), (place, wanted));
    assert_eq!(image.read(1024, loader.len() as u64), loader);
}

#[test]
fn another_implementation_reads_the_same_table() {
    let image = grown();
    let (_, table) = plan(&image);
    rewrite::rewrite(&image.disk(), &table).unwrap();
    let disk = gpt_library::GptConfig::new()
        .writable(false)
        .open(image.path())
        .unwrap();
    assert_eq!(disk.primary_header().unwrap().backup_lba, NEW / 512 - 1);
    assert_eq!(disk.backup_header().unwrap().backup_lba, 1);
    let state = &disk.partitions()[&2];
    assert_eq!(state.name, layout::NAME);
    assert_eq!(state.last_lba, table.entries[1].last());
    assert_eq!(state.part_type_guid, gpt_library::partition_types::LINUX_FS);
}
