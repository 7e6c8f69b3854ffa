//! Random changes, the same to a map; and what other implementations see.

use std::collections::BTreeSet;
use std::io::{Cursor, Read};

use block_device::Recorder;
use esp::{Error, FileSystem};
use proptest::prelude::*;

use crate::image::{self, Content, SMALL, Shape, WHOLE, bytes, content, write};

#[derive(Clone, Debug)]
enum Change {
    Write(String, u32, usize),
    Create(String, u32, usize),
    Rename(String, String),
    Remove(String),
    Folder(String),
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("A.EFI".to_owned()),
        Just("a.efi".to_owned()),
        Just("loader.conf".to_owned()),
        Just("wherry_1.0+3-0.efi".to_owned()),
        Just("wherry_1.0+2-1.efi".to_owned()),
        Just("ungewöhnlicher Name 🚢.txt".to_owned()),
        "[a-c]{1,2}[+ .][a-c]{20,60}",
        "[A-C]{1,3}",
        Just("not:allowed".to_owned()),
    ]
}

fn path() -> impl Strategy<Value = String> {
    (
        prop_oneof![Just(""), Just("EFI/"), Just("EFI/Linux/")],
        name(),
    )
        .prop_map(|(folder, name)| format!("{folder}{name}"))
}

fn change() -> impl Strategy<Value = Change> {
    let length = || prop_oneof![Just(0), Just(512), 0..4000usize, 60_000..120_000usize];
    prop_oneof![
        (path(), any::<u32>(), length())
            .prop_map(|(path, seed, length)| Change::Write(path, seed, length)),
        (path(), any::<u32>(), length())
            .prop_map(|(path, seed, length)| Change::Create(path, seed, length)),
        (path(), name()).prop_map(|(path, name)| Change::Rename(path, name)),
        path().prop_map(Change::Remove),
        path().prop_map(Change::Folder),
    ]
}

/// The path as the map has it, whatever the case and the short name.
fn find(model: &Content, path: &str) -> Option<String> {
    let upper = path.to_uppercase();
    model
        .keys()
        .find(|key| key.to_uppercase() == upper)
        .cloned()
}

/// What the change does to the map, and whether it can be done if there is room.
fn apply(model: &mut Content, change: &Change) -> bool {
    let valid = |path: &str| !path.contains(':');
    match change {
        Change::Write(path, seed, length) | Change::Create(path, seed, length) => {
            let found = find(model, path);
            let replaces = matches!(change, Change::Write(..));
            let possible = match &found {
                Some(found) => replaces && model[found].is_some(),
                None => valid(path),
            };
            if possible {
                let key = found.unwrap_or_else(|| path.clone());
                model.insert(key, Some(bytes(*seed, *length)));
            }
            possible
        }
        Change::Rename(path, name) => {
            let Some(found) = find(model, path) else {
                return false;
            };
            let folder = found.rsplit_once('/').map_or("", |(folder, _)| folder);
            let new = if folder.is_empty() {
                name.clone()
            } else {
                format!("{folder}/{name}")
            };
            let taken = find(model, &new).is_some_and(|other| other != found);
            if taken || !valid(&new) {
                return false;
            }
            let moved: Vec<(String, Option<Vec<u8>>)> = model
                .extract_if(.., |key, _| {
                    *key == found || key.starts_with(&format!("{found}/"))
                })
                .collect();
            for (key, value) in moved {
                model.insert(format!("{new}{}", &key[found.len()..]), value);
            }
            true
        }
        Change::Remove(path) => {
            let Some(found) = find(model, path) else {
                return false;
            };
            let inside = format!("{found}/");
            let empty = !model.keys().any(|key| key.starts_with(&inside));
            if empty {
                model.remove(&found);
            }
            empty
        }
        Change::Folder(path) => match find(model, path) {
            Some(found) => model[&found].is_none(),
            None if valid(path) => {
                model.insert(path.clone(), None);
                true
            }
            None => false,
        },
    }
}

/// Makes random changes to a file system and to the map; gives the image.
fn run(shape: Shape, changes: &[Change]) -> Result<(Vec<u8>, Content), TestCaseError> {
    let device = Recorder::new(image::format(shape));
    let system = FileSystem::open(&device).unwrap();
    let mut model = Content::new();
    for folder in ["EFI", "EFI/Linux"] {
        system.create_folder(folder).unwrap();
        model.insert(folder.to_owned(), None);
    }
    for change in changes {
        let before = model.clone();
        let possible = apply(&mut model, change);
        let done = match change {
            Change::Write(path, seed, length) => write(&system, path, &bytes(*seed, *length)),
            Change::Create(path, seed, length) => {
                system.create(path, *length as u64).and_then(|mut writer| {
                    writer.write(&bytes(*seed, *length))?;
                    writer.finish()
                })
            }
            Change::Rename(path, name) => system.rename(path, name),
            Change::Remove(path) => system.remove(path),
            Change::Folder(path) => system.create_folder(path),
        };
        match (&done, possible) {
            (Ok(()), true) => {}
            (Err(Error::Full { .. }), _) => model = before,
            (Err(_), false) => {}
            _ => prop_assert!(false, "{change:?}: {done:?}, expected {possible:?}"),
        }
        prop_assert_eq!(&content(&system).unwrap(), &model, "{:?}", change);
    }
    let again = FileSystem::open(&device).unwrap();
    prop_assert!(again.findings().is_clean(), "{:?}", again.findings());
    prop_assert_eq!(again.free(), system.free());
    prop_assert_eq!(&content(&again).unwrap(), &model);
    drop((system, again));
    Ok((device.now(), model))
}

/// What the crate fatfs reads.
fn read_by_fatfs(image: &[u8]) -> Content {
    fn walk(folder: fatfs::Dir<'_, Cursor<Vec<u8>>>, path: &str, content: &mut Content) {
        for entry in folder.iter() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = format!("{path}{name}");
            if entry.is_dir() {
                content.insert(path.clone(), None);
                walk(entry.to_dir(), &format!("{path}/"), content);
            } else {
                let mut bytes = Vec::new();
                entry.to_file().read_to_end(&mut bytes).unwrap();
                content.insert(path, Some(bytes));
            }
        }
    }
    let system =
        fatfs::FileSystem::new(Cursor::new(image.to_vec()), fatfs::FsOptions::new()).unwrap();
    let mut content = Content::new();
    walk(system.root_dir(), "", &mut content);
    content
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn it_does_what_a_map_does(changes in prop::collection::vec(change(), 1..40)) {
        let (image, _) = run(SMALL, &changes)?;
        if let Some(tools) = image::tools() {
            prop_assert_eq!(image::fsck(&tools, &image), "");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(6))]

    #[test]
    fn another_implementation_reads_the_same(changes in prop::collection::vec(change(), 10..40)) {
        let (image, model) = run(WHOLE, &changes)?;
        prop_assert_eq!(read_by_fatfs(&image), model);
    }
}

#[test]
fn mtools_reads_the_same() {
    let Some(tools) = image::tools() else {
        return;
    };
    let device = Recorder::new(image::format(WHOLE));
    let system = FileSystem::open(&device).unwrap();
    system.create_folder("EFI").unwrap();
    let names = ["wherry_1.0+3-0.efi", "BOOTX64.EFI", "wherry_1.0.efi"];
    for (seed, name) in names.iter().enumerate() {
        write(&system, &format!("EFI/{name}"), &bytes(seed as u32, 99_999)).unwrap();
    }
    system
        .rename("EFI/wherry_1.0.efi", "wherry_1.0+7-0.efi")
        .unwrap();
    let folder = tempfile::tempdir_in("/dev/shm").unwrap();
    let path = folder.path().join("image");
    std::fs::write(&path, device.now()).unwrap();
    let run = |program: &str, arguments: &[&str]| {
        let output = tools
            .command(program)
            .unwrap()
            .arg("-i")
            .arg(&path)
            .args(arguments)
            .output()
            .unwrap();
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        output.stdout
    };
    let listed = String::from_utf8(run("mdir", &["-b", "::/EFI"])).unwrap();
    let listed: BTreeSet<&str> = listed.lines().collect();
    assert_eq!(
        listed,
        BTreeSet::from([
            "::/EFI/wherry_1.0+3-0.efi",
            "::/EFI/BOOTX64.EFI",
            "::/EFI/wherry_1.0+7-0.efi"
        ])
    );
    assert!(run("mtype", &["::/EFI/wherry_1.0+7-0.efi"]) == bytes(2, 99_999));
}

#[test]
fn what_mkfs_and_mtools_have_made_is_read_and_changed() {
    let Some(tools) = image::tools() else {
        return;
    };
    for arguments in [
        ["-F", "32", "-S", "512", "-s", "1"],
        ["-F", "32", "-S", "4096", "-s", "1"],
        ["-F", "32", "-S", "512", "-s", "8"],
    ] {
        let folder = tempfile::tempdir_in("/dev/shm").unwrap();
        let (path, text) = (folder.path().join("image"), folder.path().join("text"));
        std::fs::File::create(&path)
            .unwrap()
            .set_len(40 << 20)
            .unwrap();
        std::fs::write(&text, bytes(1, 12_345)).unwrap();
        let run = |program: &str, arguments: &[&str]| {
            let output = tools
                .command(program)
                .unwrap()
                .args(arguments)
                .output()
                .unwrap();
            assert!(
                output.status.success(),
                "{}",
                String::from_utf8_lossy(&output.stderr)
            );
        };
        let image = path.to_str().unwrap();
        run("mkfs.vfat", &[&arguments[..], &[image]].concat());
        run("mmd", &["-i", image, "::/loader"]);
        run(
            "mcopy",
            &[
                "-i",
                image,
                text.to_str().unwrap(),
                "::/loader/Entry with a long name.conf",
            ],
        );
        let file = std::fs::OpenOptions::new()
            .read(true)
            .write(true)
            .open(&path)
            .unwrap();
        let system = FileSystem::open(block_device::Disk::new(file).unwrap()).unwrap();
        assert!(system.findings().is_clean(), "{:?}", system.findings());
        let path = "loader/entry WITH a long name.conf";
        assert_eq!(
            content(&system).unwrap()["loader/Entry with a long name.conf"],
            Some(bytes(1, 12_345))
        );
        write(&system, path, &bytes(2, 54_321)).unwrap();
        system.create_folder("loader/entries").unwrap();
        write(&system, "loader/entries/x", &bytes(3, 5)).unwrap();
        assert_eq!(image::fsck(&tools, &std::fs::read(image).unwrap()), "");
    }
}

#[test]
fn a_file_is_found_by_its_short_name_too() {
    let device = Recorder::new(image::format(SMALL));
    let system = FileSystem::open(&device).unwrap();
    write(&system, "wherry_1.0.efi", b"one").unwrap();
    assert!(matches!(
        system.create("WHERRY~1.EFI", 1),
        Err(Error::Exists(_))
    ));
    system.rename("wherry~1.efi", "wherry_2.0.efi").unwrap();
    write(&system, "wherry_1.0.efi", b"another").unwrap();
    let now = content(&system).unwrap();
    assert_eq!(now["wherry_1.0.efi"], Some(b"another".to_vec()));
    assert_eq!(now["wherry_2.0.efi"], Some(b"one".to_vec()));
}
