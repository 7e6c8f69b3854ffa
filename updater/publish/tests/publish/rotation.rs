//! New keys, and machines that trust an old root.

use std::fs;
use std::path::Path;

use jiff::SignedDuration;
use release::Channel;
use wherry_release::progress::Silent;
use wherry_release::{KeyFolder, Repository, Role, sign_draft};

use crate::world::{World, files, on};

#[test]
fn a_machine_follows_from_the_first_root_over_every_rotation() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    for role in [Role::Timestamp, Role::Targets, Role::Snapshot] {
        world.open().rotate(role, None).unwrap();
        assert_eq!(world.versions("stable"), ["1.0"]);
    }
    // The root's keys too, one after the other, until none of the first is left.
    let first: Vec<String> = KeyFolder::open(&world.keys())
        .unwrap()
        .of(Role::Root)
        .map(|key| key.id.clone())
        .collect();
    for id in &first {
        let done = world.open().rotate(Role::Root, Some(&id[..12])).unwrap();
        assert_eq!(done.removed, std::slice::from_ref(id));
        assert_eq!(world.versions("stable"), ["1.0"]);
    }
    let said = world.open().rotate(Role::Root, None).unwrap_err();
    assert!(said.to_string().contains("which key of root"), "{said}");
    assert_eq!(world.open().renew_root().unwrap().root_version, 8);
    world.publish("1.1", &on("stable")).unwrap();
    assert_eq!(world.versions("stable"), ["1.1", "1.0"]);
    assert!(world.verify().problems.is_empty());
    // The old keys are kept apart, in case they were the wrong ones.
    assert_eq!(
        fs::read_dir(world.keys().join("retired")).unwrap().count(),
        6
    );
}

#[test]
fn what_a_removed_key_signs_is_refused() {
    let mut world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    // A thief has the keys, and the tree as it was.
    let (keys, tree) = (
        world.folder.path().join("stolen-keys"),
        world.folder.path().join("stolen-tree"),
    );
    wherry_release::keys::backup(&world.keys(), &keys).unwrap();
    copy(&world.repository(), &tree);
    for role in [Role::Timestamp, Role::Snapshot, Role::Targets] {
        world.open().rotate(role, None).unwrap();
    }
    world.publish("1.1", &on("stable")).unwrap();
    world.later(SignedDuration::from_hours(1));
    let keys = || KeyFolder::open(&keys).unwrap();
    for _ in 0..10 {
        // So often that its versions are newer than the real ones.
        let mut thief = Repository::open_at(&tree, keys(), world.now).unwrap();
        thief.renew().unwrap();
    }
    let mut thief = Repository::open_at(&tree, keys(), world.now).unwrap();
    thief
        .publish(&world.built("6.6", 66), &on("stable"), &Silent)
        .unwrap();
    let names = |channels: Vec<Channel>| -> Vec<String> {
        let offers = channels.into_iter().flat_map(|channel| channel.offers);
        offers
            .map(|offer| offer.manifest.version.to_string())
            .collect()
    };
    // With the new roots held back the forgery is good; it is the rotation that
    // makes it worthless.
    let held_back = world.read_at(&tree, &world.first_root()).unwrap();
    assert_eq!(names(held_back), ["6.6", "1.0"]);
    copy(&tree, &world.repository());
    let said = world.read(&world.first_root()).unwrap_err();
    assert!(said.to_lowercase().contains("timestamp"), "{said}");
}

fn copy(from: &Path, to: &Path) {
    for (path, content) in files(from) {
        let target = to.join(path.strip_prefix(from).unwrap());
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        fs::write(target, content).unwrap();
    }
}

#[test]
fn a_root_that_too_few_have_signed_is_refused() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    let one = world.folder.path().join("one");
    fs::create_dir(&one).unwrap();
    let keys = KeyFolder::open(&world.keys()).unwrap();
    // One of three of the root's, where two have to sign.
    for key in keys.of(Role::Root).take(1).chain(
        [Role::Targets, Role::Snapshot, Role::Timestamp]
            .iter()
            .flat_map(|role| keys.of(*role)),
    ) {
        fs::copy(&key.path, one.join(key.path.file_name().unwrap())).unwrap();
    }
    fs::copy(keys.trust(), one.join("root.json")).unwrap();
    let few = KeyFolder::open(&one).unwrap();
    let mut repository = Repository::open(&world.repository(), few).unwrap();
    let said = repository.renew_root().unwrap_err().to_string();
    assert!(said.contains("requires 2 of"), "{said}");
    drop(repository);
    assert!(!world.repository().join("metadata/2.root.json").exists());

    // And one that is there anyway is not followed.
    world.open().renew_root().unwrap();
    let path = world.repository().join("metadata/2.root.json");
    let mut root: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    root["signatures"].as_array_mut().unwrap().truncate(1);
    fs::write(&path, root.to_string()).unwrap();
    assert!(world.read(&world.first_root()).is_err());
    let keys = KeyFolder::open(&world.keys()).unwrap();
    fs::copy(world.first_root(), keys.trust()).unwrap();
    let said = Repository::open(&world.repository(), keys).unwrap_err();
    assert!(said.to_string().contains("2.root.json"), "{said}");
}

#[test]
fn a_lost_online_key_is_replaced_all_the_same() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    let keys = KeyFolder::open(&world.keys()).unwrap();
    for key in keys.of(Role::Timestamp) {
        fs::remove_file(&key.path).unwrap();
    }
    world.open().rotate(Role::Timestamp, None).unwrap();
    assert_eq!(world.versions("stable"), ["1.0"]);
}

#[test]
fn each_role_expires_when_it_should_and_a_new_signature_helps() {
    for (days, role) in [(8, "timestamp"), (91, "snapshot"), (366, "root")] {
        let world = World::new();
        // Made so long ago.
        let past = world.now - SignedDuration::from_hours(24 * days);
        let folder = world.folder.path().join("old");
        let keys = KeyFolder::make(&folder.join("keys"), 1).unwrap();
        let init = wherry_release::Init::default();
        Repository::init_at(&folder.join("repository"), keys, &init, past).unwrap();
        let open = |now| {
            let keys = KeyFolder::open(&folder.join("keys")).unwrap();
            Repository::open_at(&folder.join("repository"), keys, now).unwrap()
        };
        let trust = folder.join("keys/root.json");
        let verify = || {
            wherry_release::verify::verify(
                &folder.join("repository"),
                &trust,
                world.now,
                &wherry_release::progress::Silent,
            )
            .unwrap()
            .problems
        };
        let expired = verify();
        assert!(
            expired.iter().any(|problem| problem.starts_with(role)),
            "{role}: {expired:?}"
        );
        match role {
            "timestamp" => open(world.now).renew_timestamp().unwrap(),
            "snapshot" => open(world.now).renew().unwrap(),
            _ => drop(open(world.now).renew_root().unwrap()),
        }
        assert_eq!(verify(), Vec::<String>::new(), "{role}");
    }
}

#[test]
fn an_operator_is_told_before_the_root_expires() {
    let mut world = World::new();
    let warnings = |world: &World, version| world.publish(version, &on("stable")).unwrap().warnings;
    assert!(warnings(&world, "1.0").is_empty());
    world.later(SignedDuration::from_hours(24 * 340));
    let told = warnings(&world, "1.1");
    assert!(told[0].contains("keys renew"), "{told:?}");
    world.open().renew_root().unwrap();
    assert!(warnings(&world, "1.2").is_empty());
}

#[test]
fn keepers_of_the_roots_keys_sign_one_after_the_other() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    // Each of three has one of the root's keys and the root in force; none of
    // them is where releases are published.
    let keepers: Vec<_> = KeyFolder::open(&world.keys())
        .unwrap()
        .of(Role::Root)
        .enumerate()
        .map(|(number, key)| {
            let folder = world.folder.path().join(format!("keeper-{number}"));
            fs::create_dir(&folder).unwrap();
            fs::rename(&key.path, folder.join(key.path.file_name().unwrap())).unwrap();
            fs::copy(world.keys().join("root.json"), folder.join("root.json")).unwrap();
            folder
        })
        .collect();
    let draft = world.folder.path().join("draft.json");
    let sign = |folder: &Path| sign_draft(&draft, &KeyFolder::open(folder).unwrap());
    let begun = world
        .open()
        .draft_rotation(Role::Timestamp, None, &draft)
        .unwrap();
    assert!(begun.signed_by.is_empty() && begun.added.len() == 1);
    assert!(world.open().draft_renewal(&draft).is_err());
    assert!(world.open().install_draft(&draft).is_err());
    assert!(sign(&world.keys()).is_err(), "no key of the root is there");
    let seen = sign(&keepers[0]).unwrap();
    assert_eq!((seen.added, seen.removed.len()), (begun.added, 1));
    sign(&keepers[0]).unwrap();
    let said = world.open().install_draft(&draft).unwrap_err().to_string();
    assert!(said.contains("requires 2 of"), "{said}");
    assert_eq!(sign(&keepers[2]).unwrap().signed_by.len(), 2);
    assert!(!world.repository().join("metadata/2.root.json").exists());
    assert_eq!(world.open().install_draft(&draft).unwrap().root_version, 2);
    world.publish("1.1", &on("stable")).unwrap();
    assert_eq!(world.versions("stable"), ["1.1", "1.0"]);
    assert!(world.verify().problems.is_empty());
    // The second time it is not the next root.
    let said = world.open().install_draft(&draft).unwrap_err().to_string();
    assert!(said.contains("the next one is 3"), "{said}");
}
