//! `updater install` and its like, on a disk image.

use std::path::Path;
use std::process::{Command, Output};

use crate::world::{World, entries, release};

fn updater(world: &World, command: &str, booted: u8, more: &[&str]) -> Output {
    let mut line = Command::new(env!("CARGO_BIN_EXE_updater"));
    line.arg(command)
        .arg("--json")
        .arg("--disk")
        .arg(world.disk())
        .arg("--booted")
        .arg(release(booted).root_hash.to_string());
    if command == "install" {
        line.arg("--repository")
            .arg(world.path("repository"))
            .arg("--trust")
            .arg(world.path("config/update-root.json"))
            .arg("--state")
            .arg(world.path("state"));
    }
    line.args(more).output().unwrap()
}

fn json(output: &Output) -> serde_json::Value {
    assert!(output.status.success(), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_disk_image_is_updated_blessed_and_rolled_back() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    world.publish(2);
    let done = json(&updater(&world, "install", 1, &["--channel", "stable"]));
    assert_eq!(done["version"], "2.0");
    assert_eq!(done["disk"]["next"], "wherry_2.0+3-0.efi");
    assert!(done["written"].as_u64().unwrap() > release(2).uki.len() as u64);
    assert!(done["peak_rss_kib"].as_u64().unwrap() > 0);
    let again = json(&updater(&world, "install", 1, &[]));
    assert_eq!(
        (again["changed"].as_bool(), &again["written"]),
        (Some(false), &0.into())
    );

    json(&updater(&world, "bless", 2, &[]));
    assert_eq!(
        entries(&world.look(2)),
        ["wherry_1.0.efi", "wherry_2.0+7-0.efi"]
    );
    json(&updater(&world, "rollback", 2, &[]));
    assert_eq!(world.look(2)["next"], "wherry_1.0.efi");
}

#[test]
fn what_is_staged_boots_only_when_the_rest_is_done() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    world.publish(2);
    let staged = json(&updater(&world, "install", 1, &["--stage"]));
    assert_eq!(staged["disk"]["next"], "wherry_1.0.efi");
    let done = json(&updater(&world, "install", 1, &[]));
    assert_eq!(done["disk"]["next"], "wherry_2.0+3-0.efi");
    let actions = done["actions"].as_array().unwrap();
    assert!(
        !actions
            .iter()
            .any(|action| action.as_str().unwrap().contains("Fill")),
        "{actions:?}"
    );
}

#[test]
fn what_is_not_there_or_not_allowed_is_refused_with_a_reason() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    world.publish(2);
    for (command, booted, more, code, words) in [
        (
            "install",
            1,
            &["--version", "9.0"][..],
            4,
            "does not offer 9.0",
        ),
        ("install", 3, &[], 4, "--booted"),
        ("install", 1, &["--channel", "edge"], 1, "edge"),
        ("rollback", 1, &[], 4, "no other release"),
    ] {
        let output = updater(&world, command, booted, more);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(words), "{said}");
    }
    assert!(!Path::new(&world.path("state/record.json")).exists());
}
