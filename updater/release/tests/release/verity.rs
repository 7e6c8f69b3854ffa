//! Hash trees, against veritysetup.

use std::fs;
use std::process::Command;

use machine::{Build, Tools};
use proptest::prelude::*;
use release::{BLOCK, BlockHasher, BlockIndex, VerityParameters, short, tree};

fn tools() -> Tools {
    let build = Build::from_env().expect("`cargo xtask tools` makes the tools tree");
    build.tools().expect("`cargo xtask tools` makes it")
}

/// Data that differs from block to block.
fn data(blocks: u64) -> Vec<u8> {
    (0..blocks * BLOCK / 8)
        .flat_map(|word| word.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes())
        .collect()
}

fn parameters(data_blocks: u64, salt: &[u8]) -> VerityParameters {
    VerityParameters {
        salt: salt.to_vec(),
        uuid: *b"0123456789abcdef",
        data_blocks,
    }
}

fn leaves(parameters: &VerityParameters, data: &[u8]) -> Vec<[u8; 32]> {
    let hasher = BlockHasher::new(parameters);
    data.chunks(BLOCK as usize)
        .map(|block| hasher.hash(block))
        .collect()
}

#[test]
fn a_hash_tree_is_veritysetups_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let (image, theirs) = (folder.path().join("data"), folder.path().join("tree"));
    // One block, full and not quite full blocks of hashes, one level and two.
    for blocks in [1, 2, 127, 128, 129, 256, 300, 16_384, 16_385] {
        let salts = [&[0x5a; 32][..], &[7]];
        for salt in &salts[..if blocks < 1000 { 2 } else { 1 }] {
            let data = data(blocks);
            let parameters = parameters(blocks, salt);
            fs::write(&image, &data).unwrap();
            let _ = fs::remove_file(&theirs);
            let text: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
            let output = tools()
                .command("veritysetup")
                .unwrap()
                .args(["format", "--salt", &text])
                .args(["--uuid", "30313233-3435-3637-3839-616263646566"])
                .args([&image, &theirs])
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            assert!(output.status.success(), "{said}{output:?}");

            let (ours, root_hash) = tree(&parameters, leaves(&parameters, &data)).unwrap();
            assert!(
                said.contains(&root_hash.to_string()),
                "{blocks} blocks: {root_hash} is not in {said}"
            );
            let theirs = fs::read(&theirs).unwrap();
            // With one block veritysetup leaves a file of the superblock alone.
            assert_eq!(theirs.len().next_multiple_of(BLOCK as usize), ours.len());
            assert!(theirs == ours[..theirs.len()], "{blocks} blocks differ");
            assert_eq!(ours.len() as u64, parameters.tree_length());
            assert_eq!(VerityParameters::parse(&theirs).unwrap(), parameters);
        }
    }
}

#[test]
fn the_index_of_a_tree_has_the_begin_of_each_blocks_hash() {
    for blocks in [2, 128, 129, 500] {
        let data = data(blocks);
        let parameters = parameters(blocks, b"salt");
        let leaves = leaves(&parameters, &data);
        let (tree, _) = tree(&parameters, leaves.iter().copied()).unwrap();
        let index = BlockIndex::of_tree(&parameters, &tree).unwrap();
        assert_eq!(index, leaves.iter().map(short).collect());
        assert!(BlockIndex::of_tree(&parameters, &tree[..tree.len() - 4096]).is_none());
    }
}

#[test]
fn a_superblock_of_another_kind_is_refused_by_the_name_of_what_is_other() {
    let good = parameters(9, &[1; 32]).superblock();
    for (at, byte, field) in [
        (0, b'x', "signature"),
        (8, 2, "format"),
        (12, 0, "type"),
        (35, b'5', "algorithm"),
        (65, 2, "size of data blocks"),
        (69, 2, "size of hash blocks"),
        (72, 0, "number of data blocks"),
        (79, 1, "number of data blocks"),
        (81, 2, "salt"),
    ] {
        let mut superblock = good;
        superblock[at] = byte;
        let error = VerityParameters::parse(&superblock)
            .unwrap_err()
            .to_string();
        assert!(error.contains(field), "{field}: {error}");
    }
    assert!(VerityParameters::parse(&good[..60]).is_err());
}

proptest! {
    #[test]
    fn any_bytes_are_read_as_a_superblock_without_harm(bytes: Vec<u8>) {
        let mut superblock = parameters(9, &[1; 32]).superblock();
        for (at, byte) in bytes.iter().enumerate() {
            superblock[64 + at % 64] ^= byte;
        }
        let _ = VerityParameters::parse(&superblock);
        let _ = VerityParameters::parse(&bytes);
    }
}

#[test]
fn the_veritysetup_of_the_tools_tree_verifies_our_tree() {
    let folder = tempfile::tempdir().unwrap();
    let (image, ours) = (folder.path().join("data"), folder.path().join("tree"));
    let data = data(1000);
    let parameters = parameters(1000, &[3; 32]);
    let (tree, root_hash) = tree(&parameters, leaves(&parameters, &data)).unwrap();
    let verify = |data: &[u8]| {
        fs::write(&image, data).unwrap();
        fs::write(&ours, &tree).unwrap();
        let mut command: Command = tools().command("veritysetup").unwrap();
        command
            .arg("verify")
            .args([&image, &ours])
            .arg(root_hash.to_string())
            .output()
            .unwrap()
            .status
            .success()
    };
    assert!(verify(&data));
    let mut other = data;
    other[4_000_000] ^= 1;
    assert!(!verify(&other));
}
