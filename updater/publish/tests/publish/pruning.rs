//! What is taken away, and what stays.

use wherry_release::Publish;

use crate::world::{World, on};

#[test]
fn what_no_channel_needs_goes_and_barriers_stay() {
    let world = World::new();
    let from = |least: &str| Publish {
        min_version: Some(least.parse().unwrap()),
        ..on("stable")
    };
    world.publish("1.0", &on("stable")).unwrap();
    world.publish("1.1", &on("stable")).unwrap();
    world.publish("1.2", &on("beta")).unwrap();
    // Who is older than 1.1 has to take 1.5 or 1.6 first, and 1.5 only from 1.0.
    world.publish("1.5", &from("1.0")).unwrap();
    world.publish("1.6", &from("1.5")).unwrap();
    world.publish("2.0", &from("1.5")).unwrap();
    world.publish("2.1", &from("1.5")).unwrap();

    let would = world.open().prune(1, true).unwrap();
    assert_eq!(world.versions("stable").len(), 6);
    let pruned = world.open().prune(1, false).unwrap();
    assert_eq!(would.offers, pruned.offers);
    assert_eq!(world.versions("stable"), ["2.1", "1.5", "1.1"]);
    assert_eq!(world.versions("beta"), ["1.2"]);
    let left: Vec<String> = std::fs::read_dir(world.repository().join("releases"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let mut left = left;
    left.sort();
    assert_eq!(left, ["1.1", "1.2", "1.5", "2.1"]);
    assert!(world.verify().problems.is_empty());
    // Nothing more to do, but for what a reader may have just been reading.
    assert!(world.open().prune(1, false).unwrap().offers.is_empty());
    assert!(world.verify().problems.is_empty());
    assert_eq!(world.versions("stable"), ["2.1", "1.5", "1.1"]);
}

#[test]
fn a_release_that_not_everyone_has_yet_does_not_replace_the_one_before() {
    let world = World::new();
    let wave = |waves: &[&str]| Publish {
        waves: waves.iter().map(|wave| wave.parse().unwrap()).collect(),
        ..on("stable")
    };
    world.publish("1.0", &on("stable")).unwrap();
    world.publish("1.1", &on("stable")).unwrap();
    world.publish("1.2", &wave(&["1%@+0h", "50%@+6h"])).unwrap();
    world.publish("1.3", &on("stable")).unwrap();
    let version = "1.3".parse().unwrap();
    world.open().halt("stable", &version, "bad").unwrap();
    world.open().prune(1, false).unwrap();
    assert_eq!(world.versions("stable"), ["1.3", "1.1"]);
}
