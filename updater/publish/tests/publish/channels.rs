//! Publishing, promoting, halting.

use std::fs;

use jiff::SignedDuration;
use wherry_release::progress::Silent;
use wherry_release::{KeyFolder, Publish, ReleaseFolder, Repository};

use crate::world::{World, build, files, on};

#[test]
fn a_machine_finds_what_was_published_and_every_file_as_the_manifest_says() {
    let world = World::new();
    let publish = Publish {
        notes: "Faster.".to_owned(),
        min_version: Some("0.9".parse().unwrap()),
        waves: vec!["1%@+0h".parse().unwrap(), "100%@+2d".parse().unwrap()],
        mirrors: Some(vec!["https://mirror.test/wherry".to_owned()]),
        ..on("stable")
    };
    assert!(world.publish("1.0", &publish).unwrap().changed);
    let channels = world.read(&world.first_root()).unwrap();
    assert_eq!(channels.len(), 1);
    let channel = &channels[0];
    assert_eq!(channel.mirrors, ["https://mirror.test/wherry"]);
    let offer = &channel.offers[0];
    let manifest = &offer.manifest;
    assert_eq!(manifest.version.as_str(), "1.0");
    assert_eq!(manifest.loader_version.as_str(), "257.9-1~deb13u1.b2");
    assert_eq!(manifest.notes, "Faster.");
    assert_eq!(offer.waves[0].start, world.now.to_string());
    let later = world.now + SignedDuration::from_hours(48);
    assert_eq!(offer.waves[1].start, later.to_string());
    for (field, artifact) in manifest.artifacts() {
        let file = fs::read(world.repository().join(&artifact.path)).unwrap();
        assert_eq!(file.len() as u64, artifact.length, "{field}");
    }
    let report = world.verify();
    assert_eq!(report.problems, Vec::<String>::new());
    assert_eq!((report.releases, report.files), (1, 8));
}

#[test]
fn publishing_again_changes_no_byte() {
    let mut world = World::new();
    let publish = Publish {
        waves: vec!["10%@+1h".parse().unwrap(), "100%@+2h".parse().unwrap()],
        ..on("stable")
    };
    world.publish("1.0", &publish).unwrap();
    let before = files(&world.repository());
    world.later(SignedDuration::from_hours(5));
    assert!(!world.publish("1.0", &publish).unwrap().changed);
    assert!(files(&world.repository()) == before);
    // Other waves are another offer of the same release.
    assert!(world.publish("1.0", &on("stable")).unwrap().changed);
    assert_eq!(world.versions("stable"), ["1.0"]);
}

#[test]
fn a_version_that_exists_with_other_content_is_refused() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    let before = files(&world.repository());
    let other = world.built("1.0", 99);
    let refused = world.open().publish(&other, &on("beta"), &Silent);
    let said = refused.unwrap_err().to_string();
    assert!(said.contains("1.0 is published already"), "{said}");
    // A version that sorts equal would leave it to chance which one is booted.
    let equal = world.built("1.00", 98);
    let said = world.open().publish(&equal, &on("stable"), &Silent);
    let said = said.unwrap_err().to_string();
    assert!(said.contains("the same as 1.0"), "{said}");
    assert!(files(&world.repository()) == before);
}

#[test]
fn an_interrupted_publisher_is_run_again() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    // Whatever an interrupted run can leave behind: files beside their places,
    // and metadata that no timestamp names yet.
    let metadata = world.repository().join("metadata");
    fs::create_dir_all(world.repository().join("releases/.new-2.0")).unwrap();
    fs::write(
        world.repository().join("releases/.new-2.0/wherry_2.0.root"),
        "half",
    )
    .unwrap();
    fs::write(metadata.join(".new-timestamp.json"), "half").unwrap();
    build(&world.repository().join("releases/2.0"), "2.0", 77);
    fs::write(metadata.join("3.targets.json"), "never named").unwrap();
    assert_eq!(world.versions("stable"), ["1.0"]);
    world.publish("2.0", &on("stable")).unwrap();
    assert_eq!(world.versions("stable"), ["2.0", "1.0"]);
    assert_eq!(
        fs::read(metadata.join("3.targets.json")).unwrap(),
        b"never named",
        "a file that a cache may have seen was changed"
    );
    assert!(metadata.join("4.targets.json").exists());
    assert!(!metadata.join(".new-timestamp.json").exists());
    assert!(world.verify().problems.is_empty());
}

#[test]
fn a_release_goes_from_channel_to_channel_and_can_be_stopped() {
    let world = World::new();
    world.publish("1.0", &on("beta")).unwrap();
    let version = "1.0".parse().unwrap();
    let mut repository = world.open();
    repository.halt("beta", &version, "it eats disks").unwrap();
    let said = repository
        .promote("beta", "stable", &version, &[])
        .unwrap_err()
        .to_string();
    assert!(said.contains("it eats disks"), "{said}");
    repository.unhalt("beta", &version).unwrap();
    let waves = ["5%@+0h".parse().unwrap()];
    let done = repository
        .promote("beta", "stable", &version, &waves)
        .unwrap();
    assert!(done.changed && done.warnings[0].contains("5%"));
    repository.halt("stable", &version, "not yet").unwrap();
    let said = repository
        .halt("stable", &"3".parse().unwrap(), "x")
        .unwrap_err()
        .to_string();
    assert!(said.contains("offered are: 1.0"), "{said}");
    let said = repository.channel("edge").unwrap_err().to_string();
    assert!(said.contains("beta, stable"), "{said}");
    drop(repository);
    let channels = world.read(&world.first_root()).unwrap();
    assert_eq!(channels[0].offers[0].halted, None);
    assert_eq!(channels[1].offers[0].halted.as_deref(), Some("not yet"));
    // Publishing it once more does not let it loose again.
    let done = world.publish("1.0", &on("stable")).unwrap();
    assert!(done.warnings[0].contains("not yet"), "{:?}", done.warnings);
}

#[test]
fn two_publishers_at_once_both_publish() {
    let world = World::new();
    let versions = ["1.0", "1.1", "1.2", "1.3"];
    std::thread::scope(|scope| {
        for version in versions {
            let world = &world;
            scope.spawn(move || world.publish(version, &on("stable")).unwrap());
        }
    });
    assert_eq!(world.versions("stable"), ["1.3", "1.2", "1.1", "1.0"]);
    assert!(world.verify().problems.is_empty());
}

#[test]
fn a_reader_in_between_never_sees_half_a_tree() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    let stop = std::sync::atomic::AtomicBool::new(false);
    let reads = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut reads = 0;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                for channel in world.read(&world.first_root()).unwrap() {
                    for offer in &channel.offers {
                        for (_, artifact) in offer.manifest.artifacts() {
                            let path = world.repository().join(&artifact.path);
                            assert_eq!(fs::metadata(path).unwrap().len(), artifact.length);
                        }
                    }
                }
                reads += 1;
            }
            reads
        });
        for version in ["1.1", "1.2", "1.3", "1.4", "1.5"] {
            world.publish(version, &on("stable")).unwrap();
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap()
    });
    assert!(reads > 0);
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let world = World::new();
    let folder = build(&world.folder.path().join("a"), "1.0", 1);
    let other = build(&world.folder.path().join("b"), "1.0", 2);
    let newer = build(&world.folder.path().join("c"), "1.1", 3);
    let cases = [
        (&other, "1.0", "root", "hash tree"),
        (&other, "1.0", "verity", "hash tree"),
        (&other, "1.0", "efi", "does not open the root"),
        (&newer, "1.1", "loader.efi", ""),
    ];
    for (from, version, end, problem) in cases {
        let target = folder.join(format!("wherry_1.0.{end}"));
        let good = fs::read(&target).unwrap();
        fs::copy(from.join(format!("wherry_{version}.{end}")), &target).unwrap();
        let opened = ReleaseFolder::open(&folder, None, &Silent);
        match (problem, opened) {
            ("", opened) => drop(opened.unwrap()),
            (problem, opened) => {
                let said = opened.unwrap_err().to_string();
                assert!(said.contains(problem), "{end}: {said}");
            }
        }
        fs::write(&target, good).unwrap();
    }
    // All of another version, under this one's names.
    let renamed = world.folder.path().join("d");
    fs::create_dir(&renamed).unwrap();
    for end in ["root", "verity", "efi", "loader.efi", "spdx.json", "raw"] {
        fs::copy(
            newer.join(format!("wherry_1.1.{end}")),
            renamed.join(format!("wherry_1.2.{end}")),
        )
        .unwrap();
    }
    let said = ReleaseFolder::open(&renamed, None, &Silent).unwrap_err();
    assert!(
        said.to_string().contains("version 1.1, not to 1.2"),
        "{said}"
    );
    for (end, content, problem) in [
        ("raw", "no disk", "no GPT"),
        ("spdx.json", "{", "no JSON"),
        ("loader.efi", "x", "wherry_1.0.loader.efi"),
    ] {
        let target = folder.join(format!("wherry_1.0.{end}"));
        let good = fs::read(&target).unwrap();
        fs::write(&target, content).unwrap();
        let said = ReleaseFolder::open(&folder, None, &Silent).unwrap_err();
        assert!(said.to_string().contains(problem), "{said}");
        fs::write(&target, good).unwrap();
    }
    fs::remove_file(folder.join("wherry_1.0.spdx.json")).unwrap();
    let said = ReleaseFolder::open(&folder, None, &Silent).unwrap_err();
    assert!(said.to_string().contains("spdx.json"), "{said}");
}

#[test]
fn nothing_is_published_on_a_repository_that_someone_else_signed() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    let mallory = World::new();
    mallory.publish("6.6", &on("stable")).unwrap();
    for name in ["metadata", "targets", "releases"] {
        let target = world.repository().join(name);
        fs::remove_dir_all(&target).unwrap();
        fs::rename(mallory.repository().join(name), &target).unwrap();
    }
    let keys = KeyFolder::open(&world.keys()).unwrap();
    let said = Repository::open(&world.repository(), keys).unwrap_err();
    assert!(said.to_string().contains("timestamp.json"), "{said}");
}
