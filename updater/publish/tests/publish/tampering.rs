//! What `verify` finds.

use std::fs;

use crate::world::{World, files, on};

#[test]
fn a_changed_byte_in_any_file_is_found() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    let mut tried = 0;
    for (path, content) in files(&world.repository()) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // Only the newest metadata counts, and the first of a role is replaced.
        if ["1.targets.json", "1.snapshot.json", "1.root.json"].contains(&name.as_str()) {
            continue;
        }
        let mut changed = content.clone();
        let at = changed.len() / 2;
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        let found = world.verify().problems;
        assert!(!found.is_empty(), "a changed byte in {name}");
        fs::write(&path, &content[..at]).unwrap();
        assert!(!world.verify().problems.is_empty(), "{name} cut off");
        fs::remove_file(&path).unwrap();
        assert!(!world.verify().problems.is_empty(), "{name} removed");
        fs::write(&path, &content).unwrap();
        tried += 1;
    }
    // Eight files of the release, the channel, and three of the metadata.
    assert_eq!(tried, 12);
    assert!(world.verify().problems.is_empty());
}

#[test]
fn what_belongs_to_no_channel_is_remarked() {
    let world = World::new();
    world.publish("1.0", &on("stable")).unwrap();
    fs::create_dir(world.repository().join("releases/0.1")).unwrap();
    let report = world.verify();
    assert!(report.problems.is_empty());
    assert!(report.remarks[0].contains("releases/0.1"));
}
