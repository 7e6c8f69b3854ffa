//! The image as it lies on a disk: what the boot, an update and an auditor find.

use std::fs;
use std::path::Path;
use std::time::Duration;

use gpt::GptConfig;
use machine::{Build, Machine};
use serde_json::Value;

use crate::operator::build;

/// Firmware, loader and boot, emulated, on a host with other things to do.
const FIRMWARE_BOOT: Duration = Duration::from_secs(240);

/// The root hash on the kernel's command line.
fn root_hash(build: &Build) -> String {
    let line = build.command_line().unwrap();
    let mut words = line.split_whitespace();
    let hash = words.find_map(|word| word.strip_prefix("roothash="));
    hash.unwrap().to_owned()
}

#[test]
fn the_disk_has_two_slots_and_the_state() {
    let table = GptConfig::new()
        .open(build().disk_image().unwrap())
        .unwrap();
    let size = *table.logical_block_size();
    let partitions: Vec<(&str, u64)> = table
        .partitions()
        .values()
        .map(|partition| {
            let mebibytes = partition.bytes_len(size).unwrap() >> 20;
            (partition.name.as_str(), mebibytes)
        })
        .collect();
    let release = format!("wherry_{}", env!("CARGO_PKG_VERSION"));
    assert_eq!(
        partitions,
        [
            ("esp", 128),
            (&release, 256),
            (&release, 8),
            ("_empty", 256),
            ("_empty", 8),
            ("state", 64),
        ]
    );
}

#[test]
fn the_ids_of_a_slot_are_the_two_ends_of_its_root_hash() {
    let build = build();
    let table = GptConfig::new().open(build.disk_image().unwrap()).unwrap();
    let id = |number: u32| {
        let id = table.partitions()[&number].part_guid;
        id.simple().to_string()
    };
    assert_eq!(format!("{}{}", id(2), id(3)), root_hash(&build));
}

#[test]
fn the_hash_tree_covers_the_whole_root_and_tells_a_changed_bit() {
    let build = build();
    let verify = |root: &Path| {
        let mut veritysetup = build.tools().unwrap().command("veritysetup").unwrap();
        veritysetup
            .arg("verify")
            .arg(root)
            .arg(build.hash_tree().unwrap())
            .arg(root_hash(&build));
        veritysetup.output().unwrap().status.success()
    };
    assert!(verify(&build.root().unwrap()));

    let folder = tempfile::tempdir().unwrap();
    let changed = folder.path().join("root");
    let mut bytes = fs::read(build.root().unwrap()).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&changed, bytes).unwrap();
    assert!(!verify(&changed));
}

#[test]
fn the_list_of_contents_names_kernel_libraries_and_crates() {
    let path = build().directory().join("image/wherry.spdx.json");
    let list: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    assert_eq!(list["spdxVersion"], "SPDX-2.3");
    let packages = list["packages"].as_array().unwrap();
    let urls: Vec<&str> = packages
        .iter()
        .filter_map(|package| package["externalRefs"][0]["referenceLocator"].as_str())
        .collect();
    for begin in [
        "pkg:deb/debian/linux-source-6.12@",
        "pkg:deb/debian/busybox-static@",
        "pkg:deb/debian/libc6@",
        "pkg:cargo/init@",
        "pkg:cargo/serde@",
    ] {
        assert!(urls.iter().any(|url| url.starts_with(begin)), "{begin}");
    }
    // What only tests or the build use is not in it.
    for begin in [
        "pkg:cargo/proptest@",
        "pkg:cargo/fatfs@",
        "pkg:cargo/xtask@",
    ] {
        assert!(!urls.iter().any(|url| url.starts_with(begin)), "{begin}");
    }
}

#[test]
fn firmware_and_loader_boot_the_image() {
    let build = build();
    let mut machine = Machine::builder(&build, "image-firmware")
        .firmware()
        .limit(2 * FIRMWARE_BOOT)
        .start()
        .unwrap();
    machine.wait_for("wherry: ready", FIRMWARE_BOOT).unwrap();
}
