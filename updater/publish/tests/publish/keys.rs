//! Keys' files.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use wherry_release::{Init, KeyFolder, Repository, Role, keys};

use crate::world::{World, files, on};

#[test]
fn keys_are_private_files_and_never_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    let made = KeyFolder::make(&path, 2).unwrap();
    assert_eq!(made.of(Role::Root).count(), 2);
    for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
        assert_eq!(made.of(role).count(), 1);
    }
    for key in made.keys() {
        let mode = fs::metadata(&key.path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let text = fs::read_to_string(&key.path).unwrap();
        assert!(text.starts_with("-----BEGIN PRIVATE KEY-----\n"), "{text}");
        let parent = key.path.parent().unwrap().file_name().unwrap();
        assert_eq!(parent == "root", key.role == Role::Root);
    }
    let before = files(&path);
    assert!(KeyFolder::make(&path, 2).is_err());
    assert!(files(&path) == before);

    let open = made.keys()[0].path.clone();
    fs::set_permissions(&open, fs::Permissions::from_mode(0o644)).unwrap();
    let said = KeyFolder::open(&path).unwrap_err().to_string();
    assert!(said.contains("chmod 600"), "{said}");
}

#[test]
fn a_backup_is_restored_and_a_damaged_one_is_not() {
    let world = World::new();
    let archive = world.folder.path().join("archive");
    let restored = world.folder.path().join("restored");
    keys::backup(&world.keys(), &archive).unwrap();
    assert!(keys::backup(&world.keys(), &archive).is_err());
    keys::restore(&archive, &restored).unwrap();
    assert!(keys::restore(&archive, &restored).is_err());
    let content = |folder: &std::path::Path| -> Vec<_> {
        files(folder)
            .into_iter()
            .map(|(path, bytes)| (path.strip_prefix(folder).unwrap().to_owned(), bytes))
            .collect()
    };
    assert_eq!(content(&world.keys()), content(&restored));
    let mut repository =
        Repository::open(&world.repository(), KeyFolder::open(&restored).unwrap()).unwrap();
    repository.renew().unwrap();

    let victim = archive.join(files(&archive)[1].0.strip_prefix(&archive).unwrap());
    let mut bytes = fs::read(&victim).unwrap();
    bytes[40] ^= 1;
    fs::write(&victim, bytes).unwrap();
    let again = world.folder.path().join("again");
    let said = keys::restore(&archive, &again).unwrap_err().to_string();
    assert!(said.contains("damaged"), "{said}");
    assert!(!again.exists());
    fs::write(
        archive.join("SHA256SUMS"),
        format!("{}  ../../etc/passwd\n", "0".repeat(64)),
    )
    .unwrap();
    let said = keys::restore(&archive, &again).unwrap_err().to_string();
    assert!(said.contains("leads out of the archive"), "{said}");
}

#[test]
fn the_roots_keys_can_be_away_while_releases_are_published() {
    let world = World::new();
    let offline = world.folder.path().join("safe");
    fs::rename(world.keys().join("root"), &offline).unwrap();
    world.publish("1.0", &on("stable")).unwrap();
    world.open().renew_timestamp().unwrap();
    let said = world.open().rotate(Role::Targets, None).unwrap_err();
    assert!(said.to_string().contains("cannot sign root"), "{said}");

    let mut keys = KeyFolder::open(&world.keys()).unwrap();
    keys.include(&offline).unwrap();
    let mut repository = Repository::open(&world.repository(), keys).unwrap();
    repository.rotate(Role::Targets, None).unwrap();
    drop(repository);
    assert_eq!(world.versions("stable"), ["1.0"]);
}

#[test]
fn the_timestamps_key_alone_renews_the_timestamp_and_nothing_else() {
    let mut world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    let cron = world.folder.path().join("cron");
    fs::create_dir(&cron).unwrap();
    let all = KeyFolder::open(&world.keys()).unwrap();
    let key = all.of(Role::Timestamp).next().unwrap();
    fs::copy(&key.path, cron.join(key.path.file_name().unwrap())).unwrap();
    fs::copy(all.trust(), cron.join("root.json")).unwrap();
    world.later(jiff::SignedDuration::from_hours(24));
    let open = || {
        let keys = KeyFolder::open(&cron).unwrap();
        Repository::open_at(&world.repository(), keys, world.now).unwrap()
    };
    let before = files(&world.repository());
    open().renew_timestamp().unwrap();
    let changed: Vec<_> = files(&world.repository())
        .into_iter()
        .filter(|file| !before.contains(file))
        .map(|(path, _)| path.file_name().unwrap().to_owned())
        .collect();
    assert_eq!(changed, ["timestamp.json"]);
    assert_eq!(world.versions("stable"), ["1.0"]);
    let said = open()
        .halt("stable", &"1.0".parse().unwrap(), "x")
        .unwrap_err();
    assert!(said.to_string().contains("cannot sign targets"), "{said}");
    assert_eq!(world.versions("stable"), ["1.0"]);
}

#[test]
fn a_threshold_that_the_keys_cannot_reach_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    for (threshold, fits) in [(0, false), (3, false), (2, true)] {
        let path = folder.path().join(format!("keys-{threshold}"));
        let keys = KeyFolder::make(&path, 2).unwrap();
        let init = Init {
            threshold: Some(threshold),
            ..Init::default()
        };
        let repository = folder.path().join(format!("repository-{threshold}"));
        assert_eq!(Repository::init(&repository, keys, &init).is_ok(), fits);
    }
}
