//! The power goes at every moment of every change.

use block_device::{BlockDevice, Overlay, Recorder};
use esp::{Error, FileSystem};
use machine::Tools;

use crate::image::{self, Content, SMALL, Shape, bytes, content, write};

type Change = fn(&FileSystem<&dyn BlockDevice>) -> Result<(), Error>;

/// A file system with some files that no change touches, and some that are
/// there to be changed.
fn start(shape: Shape) -> Vec<u8> {
    let device = Recorder::new(image::format(shape));
    let system = FileSystem::open(&device).unwrap();
    system.create_folder("EFI").unwrap();
    system.create_folder("EFI/Linux").unwrap();
    system.create_folder("loader").unwrap();
    for (number, (path, length)) in [
        ("loader/loader.conf", 30),
        ("EFI/Linux/wherry_1.0.efi", 5000),
        ("gone", 3000),
        ("EFI/Linux/thirteen1.efi", 1500),
        ("EFI/Linux/wherry.new", 4100),
        ("EFI/startup.nsh", 512),
        ("EFI/empty", 0),
    ]
    .into_iter()
    .enumerate()
    {
        write(&system, path, &bytes(number as u32, length)).unwrap();
    }
    // So that free clusters are not in one piece.
    system.remove("gone").unwrap();
    device.now()
}

/// Whether what a cut has left is before or after: each path as in `old` or in
/// `new`, and what is the same in both as it is there. A name that is only old
/// and one that is only new may be there together for a while.
fn is_between(now: &Content, old: &Content, new: &Content) -> bool {
    now.iter()
        .all(|(path, content)| old.get(path) == Some(content) || new.get(path) == Some(content))
        && old
            .iter()
            .filter(|(path, _)| new.contains_key(*path))
            .all(|(path, _)| now.contains_key(path))
        && {
            let gone: Vec<_> = old.keys().filter(|path| !new.contains_key(*path)).collect();
            let came: Vec<_> = new.keys().filter(|path| !old.contains_key(*path)).collect();
            let has = |paths: &[&String]| paths.iter().all(|path| now.contains_key(*path));
            // Something of a renaming is always there.
            gone.is_empty() || came.is_empty() || has(&gone) || has(&came)
        }
}

fn open(device: &dyn BlockDevice) -> Result<FileSystem<&dyn BlockDevice>, Error> {
    FileSystem::open(device)
}

/// Cuts the power everywhere in a change; returns at how many points.
fn explore(name: &str, first: &[u8], tools: Option<&Tools>, change: Change) -> usize {
    let device = Recorder::new(first.to_vec());
    let old = content(&open(&device).unwrap()).unwrap();
    change(&open(&device).unwrap()).unwrap();
    let system = open(&device).unwrap();
    let (new, free) = (content(&system).unwrap(), system.free());
    assert!(
        system.findings().is_clean(),
        "{name}: {:?}",
        system.findings()
    );
    let mut count = 0;
    let points = device.cuts(|point, cut| {
        count += 1;
        let now = Overlay::new(cut);
        let system = open(&now).unwrap();
        let findings = system.findings();
        assert_eq!(findings.damaged, [], "{name}, {point}");
        let read = content(&system).unwrap();
        assert!(is_between(&read, &old, &new), "{name}, {point}");
        system.repair().unwrap();
        assert!(open(&now).unwrap().findings().is_clean(), "{name}, {point}");
        let repaired = content(&system).unwrap();
        assert!(repaired == old || repaired == new, "{name}, {point}");
        if let Some(tools) = tools
            && count % 16 == 0
        {
            assert_eq!(image::fsck(tools, &now.now()), "", "{name}, {point}");
        }
        // And again: it ends the same.
        if repaired == old {
            change(&system).unwrap();
        }
        let system = open(&now).unwrap();
        assert!(content(&system).unwrap() == new, "{name}, {point}");
        assert_eq!(system.free(), free, "{name}, {point}");
        assert!(system.findings().is_clean(), "{name}, {point}");
        // The power goes once more, while it is repaired.
        if !findings.is_clean() && count % 8 == 0 {
            let again = Recorder::new(cut.to_vec());
            open(&again).unwrap().repair().unwrap();
            again.cuts(|second, cut| {
                let now = Overlay::new(cut);
                let system = open(&now).unwrap();
                assert!(is_between(&content(&system).unwrap(), &old, &new));
                system.repair().unwrap();
                let repaired = content(&system).unwrap();
                assert!(
                    repaired == old || repaired == new,
                    "{name}, {point}, {second}"
                );
                assert!(open(&now).unwrap().findings().is_clean());
            });
        }
    });
    if let Some(tools) = tools {
        assert_eq!(image::fsck(tools, &device.now()), "", "{name}");
    }
    println!("{name}: {points} points");
    points
}

const CHANGES: [(&str, Change); 13] = [
    ("a new file", |system| {
        write(system, "EFI/Linux/wherry_2.0+3-0.efi", &bytes(90, 7000))
    }),
    ("a new file with a short name", |system| {
        write(system, "EFI/BOOTX64.EFI", &bytes(91, 600))
    }),
    ("a new file with the longest name", |system| {
        write(system, &format!("EFI/{}", "n".repeat(255)), &bytes(92, 1))
    }),
    ("a new empty file", |system| {
        write(system, "loader/none", &[])
    }),
    ("a longer content", |system| {
        write(system, "loader/loader.conf", &bytes(93, 2000))
    }),
    ("a shorter content", |system| {
        write(system, "EFI/Linux/wherry_1.0.efi", &bytes(94, 700))
    }),
    ("no content", |system| {
        write(system, "EFI/Linux/wherry.new", &[])
    }),
    ("a content instead of none", |system| {
        write(system, "EFI/empty", &bytes(95, 1025))
    }),
    ("a name as long as the old one", |system| {
        system.rename("EFI/Linux/wherry_1.0.efi", "wherry_1.1.efi")
    }),
    ("a longer name", |system| {
        system.rename("EFI/Linux/wherry.new", "wherry_2.0+3-0.efi")
    }),
    ("a name that needs more entries than there are", |system| {
        system.rename("EFI/Linux/thirteen1.efi", &"t".repeat(200))
    }),
    ("a removal", |system| {
        system.remove("EFI/Linux/wherry_1.0.efi")
    }),
    ("a new folder", |system| system.create_folder("EFI/systemd")),
];

#[test]
fn a_power_cut_leaves_each_file_as_it_was_or_as_it_will_be() {
    let tools = image::tools();
    let first = start(SMALL);
    let mut points = 0;
    for (name, change) in CHANGES {
        points += explore(name, &first, tools.as_ref(), change);
    }
    println!("{points} points in all");
    assert!(points > 300);
}

#[test]
fn a_power_cut_does_no_harm_where_a_folder_must_grow_or_a_name_is_in_two_sectors() {
    let tools = image::tools();
    // Each number of files before makes the next entries lie elsewhere.
    for already in 0..8 {
        let device = Recorder::new(start(SMALL));
        let system = FileSystem::open(&device).unwrap();
        for number in 0..already {
            let name = format!("EFI/Linux/{}-{number}", "long-name".repeat(3));
            write(&system, &name, &bytes(number, 100)).unwrap();
        }
        drop(system);
        for (name, change) in CHANGES {
            if name.starts_with("a new") || name.contains("name") || name == "a removal" {
                explore(name, &device.now(), tools.as_ref(), change);
            }
        }
    }
}

#[test]
fn larger_clusters_and_sectors_are_no_different() {
    for shape in [
        Shape {
            sector: 512,
            per_cluster: 8,
            clusters: 100,
        },
        Shape {
            sector: 4096,
            per_cluster: 1,
            clusters: 100,
        },
    ] {
        let first = start(shape);
        for (name, change) in CHANGES {
            explore(name, &first, None, change);
        }
    }
}

#[test]
fn a_file_that_is_not_finished_leaves_nothing_behind() {
    let first = start(SMALL);
    let device = Recorder::new(first.clone());
    let system = FileSystem::open(&device).unwrap();
    let (old, free) = (content(&system).unwrap(), system.free());
    let mut writer = system.create("EFI/Linux/wherry_2.0.efi", 20_000).unwrap();
    writer.write(&bytes(7, 19_999)).unwrap();
    assert!(system.free() < free);
    assert!(matches!(writer.finish(), Err(Error::Length { .. })));
    assert_eq!(system.free(), free);
    assert!(content(&system).unwrap() == old);
    let system = FileSystem::open(&device).unwrap();
    assert!(system.findings().is_clean());
    device.cuts(|_, cut| {
        let now = Overlay::new(cut);
        let system = FileSystem::open(&now).unwrap();
        assert!(content(&system).unwrap() == old && system.findings().is_clean());
    });
}
