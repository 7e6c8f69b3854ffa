//! File systems that are not sound, and devices that fail.

use block_device::{Failing, Overlay, Recorder};
use esp::{Error, FileSystem};
use proptest::prelude::*;

use crate::image::{self, SMALL, bytes, content, write};

const TABLE: usize = 8 * 512;
const TABLE_LENGTH: usize = 3 * 512;

/// Three files in the root; `a` has the clusters 3 to 5, `b` 6 to 8, `c` 9.
fn three() -> Vec<u8> {
    let device = Recorder::new(image::format(SMALL));
    let system = FileSystem::open(&device).unwrap();
    for (seed, name, length) in [(1, "A", 1500), (2, "B", 1500), (3, "C", 100)] {
        write(&system, name, &bytes(seed, length)).unwrap();
    }
    device.now()
}

fn link(image: &mut [u8], cluster: usize, value: u32) {
    for table in [TABLE, TABLE + TABLE_LENGTH] {
        let at = table + cluster * 4;
        image[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The paths that are reported as damaged, and the reports.
fn damaged(image: &[u8]) -> Vec<(String, &'static str)> {
    let system = FileSystem::open(Overlay::new(image)).unwrap();
    let damaged = system.findings().damaged;
    damaged
        .into_iter()
        .map(|damage| (damage.path, damage.what))
        .collect()
}

#[test]
fn a_damaged_file_is_told_and_the_others_can_be_changed() {
    type Damage = fn(&mut [u8]);
    let damages: [(&str, &str, Damage); 5] = [
        ("A", "loop", |image| link(image, 5, 3)),
        ("A", "broken", |image| link(image, 4, 0)),
        ("A", "broken", |image| link(image, 4, 0x0fff_fff7)),
        ("A", "longer than its chain", |image| {
            link(image, 3, 0x0fff_ffff)
        }),
        ("B", "shares", |image| link(image, 5, 7)),
    ];
    for (path, words, damage) in damages {
        let mut image = three();
        damage(&mut image);
        let told = damaged(&image);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].0 == path && told[0].1.contains(words), "{told:?}");
        let device = Overlay::new(&image);
        let system = FileSystem::open(&device).unwrap();
        for refused in [
            write(&system, path, b"x"),
            system.remove(path),
            system.rename(path, "D"),
        ] {
            assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
        }
        write(&system, "C", &bytes(4, 3000)).unwrap();
        write(&system, "new", &bytes(5, 9000)).unwrap();
        system.remove("C").unwrap();
        system.rename("new", "newer").unwrap();
        // Nothing of the damaged ones was written over.
        let data = TABLE + 2 * TABLE_LENGTH;
        let now = device.now();
        assert_eq!(
            now[data + 512..data + 7 * 512],
            image[data + 512..data + 7 * 512]
        );
        assert_eq!(damaged(&now), told);
    }
}

/// What firmware leaves, whose renaming makes a folder longer.
#[test]
fn a_folder_whose_growth_was_cut_off_ends_where_it_did() {
    let device = Recorder::new(image::format(SMALL));
    let system = FileSystem::open(&device).unwrap();
    system.create_folder("D").unwrap();
    write(&system, "D/A", &bytes(1, 2000)).unwrap();
    let mut image = device.now();
    link(&mut image, 3, 40);
    let device = Overlay::new(&image);
    let system = FileSystem::open(&device).unwrap();
    assert_eq!(system.findings().unended, ["D"]);
    assert!(system.findings().damaged.is_empty());
    let read = content(&system).unwrap();
    assert_eq!(read["D/A"], Some(bytes(1, 2000)));
    write(&system, "D/B", &bytes(2, 2000)).unwrap();
    let now = device.now();
    let system = FileSystem::open(Overlay::new(&now)).unwrap();
    assert!(system.findings().is_clean(), "{:?}", system.findings());
    assert_eq!(content(&system).unwrap()["D/B"], Some(bytes(2, 2000)));
}

#[test]
fn a_damaged_folder_keeps_lost_clusters_from_being_freed() {
    let device = Recorder::new(image::format(SMALL));
    let system = FileSystem::open(&device).unwrap();
    system.create_folder("D").unwrap();
    write(&system, "D/A", &bytes(1, 2000)).unwrap();
    let mut image = device.now();
    link(&mut image, 3, 3);
    assert_eq!(damaged(&image)[0].0, "D");
    let device = Overlay::new(&image);
    let system = FileSystem::open(&device).unwrap();
    assert_eq!(system.findings().lost_clusters, 4);
    write(&system, "B", &bytes(2, 2000)).unwrap();
    assert!(matches!(system.list("D"), Err(Error::Damaged { .. })));
    let mut healed = device.now();
    link(&mut healed, 3, 0x0fff_ffff);
    let content = content(&FileSystem::open(Overlay::new(&healed)).unwrap()).unwrap();
    assert_eq!(content["D/A"], Some(bytes(1, 2000)));
}

#[test]
fn lost_clusters_and_another_second_table_are_put_right() {
    let mut image = three();
    for cluster in 20..30 {
        let at = TABLE + cluster * 4;
        image[at..at + 4].copy_from_slice(&0x0fff_ffffu32.to_le_bytes());
    }
    let device = Recorder::new(image);
    let system = FileSystem::open(&device).unwrap();
    let findings = system.findings();
    assert_eq!((findings.lost_clusters, findings.tables_differ), (10, true));
    system.repair().unwrap();
    assert!(system.findings().is_clean());
    let again = FileSystem::open(&device).unwrap();
    assert!(again.findings().is_clean());
    assert_eq!(again.free(), system.free());
    let writes = device.writes().len();
    again.repair().unwrap();
    assert_eq!(device.writes().len(), writes, "nothing is left to do");
}

#[test]
fn other_file_systems_are_refused_with_the_reason() {
    type Change = fn(&mut [u8]);
    let changes: [(&str, Change); 5] = [
        ("no FAT file system", |image| image[510] = 0),
        ("FAT16", |image| image[22] = 8),
        ("mirroring", |image| image[40] = 0x80),
        ("larger than the partition", |image| image[34] = 1),
        ("root folder", |image| image[45] = 7),
    ];
    for (words, change) in changes {
        let mut image = image::format(SMALL);
        change(&mut image);
        let error = FileSystem::open(Overlay::new(&image)).unwrap_err();
        assert!(error.to_string().contains(words), "{error}");
    }
    assert!(FileSystem::open(Overlay::new(&[])).is_err());
}

#[test]
fn a_full_file_system_says_so_and_stays_as_it_is() {
    let image = three();
    let device = Recorder::new(image.clone());
    let system = FileSystem::open(&device).unwrap();
    let free = system.free();
    let error = system.create("big", free + 1).unwrap_err();
    assert!(matches!(error, Error::Full { .. }), "{error}");
    assert!(error.to_string().contains(&free.to_string()), "{error}");
    assert!(matches!(
        system.create("huge", 1 << 40),
        Err(Error::Full { .. })
    ));
    assert_eq!(device.now(), image);
    write(&system, "all", &bytes(1, free as usize)).unwrap();
    assert_eq!(system.free(), 0);
    // Another content needs its own room before the old one is freed.
    assert!(matches!(write(&system, "C", b"x"), Err(Error::Full { .. })));
    system.rename("all", "everything").unwrap();
    system.remove("everything").unwrap();
    assert_eq!(system.free(), free);
}

#[test]
fn a_device_that_fails_leaves_what_a_power_cut_leaves() {
    let image = three();
    for left in 0.. {
        let recorder = Recorder::new(image.clone());
        let failing = Failing::new(&recorder);
        let system = FileSystem::open(&failing).unwrap();
        failing.fail_after(Some(left));
        let result = write(&system, "B", &bytes(9, 2000))
            .and_then(|()| system.rename("A", "a longer name than before"))
            .and_then(|()| system.remove("C"));
        let again = FileSystem::open(&recorder).unwrap();
        assert_eq!(again.findings().damaged, []);
        again.repair().unwrap();
        let now = content(&again).unwrap();
        assert!(now["B"] == Some(bytes(2, 1500)) || now["B"] == Some(bytes(9, 2000)));
        assert!(now.contains_key("A") || now.contains_key("a longer name than before"));
        match result {
            Ok(()) => break,
            Err(error) => {
                let source = std::error::Error::source(&error).unwrap();
                assert_eq!(source.to_string(), Failing::<()>::MESSAGE);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever the tables and folders say: no panic, no endless loop, and a
    /// file that is not told to be damaged can be read.
    #[test]
    fn no_image_makes_it_panic(
        changes in prop::collection::vec((0usize..14 * 512 + 3000, any::<u8>()), 1..24),
        entries in prop::collection::vec((0usize..12, 0u32..14), 0..6),
    ) {
        let mut image = three();
        for (at, byte) in changes {
            // The boot sector has its own test.
            let at = if at < 512 { at + TABLE } else { at };
            image[at] = byte;
        }
        for (cluster, value) in entries {
            link(&mut image, cluster + 2, value);
        }
        let device = Overlay::new(&image);
        let system = FileSystem::open(&device).unwrap();
        let findings = system.findings();
        if findings.damaged.is_empty() {
            content(&system).unwrap();
        }
        let _ = write(&system, "B", &bytes(7, 700));
        let _ = write(&system, "a new one with a long name", &bytes(8, 700));
        let _ = system.rename("C", "another name for c");
        let _ = system.remove("A");
        let _ = system.create_folder("F");
        let again = FileSystem::open(&device).unwrap();
        if findings.damaged.is_empty() {
            prop_assert_eq!(again.findings().damaged, vec![]);
        }
    }
}
