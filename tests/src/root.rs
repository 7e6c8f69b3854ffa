//! The verified root: what is not as it was built is never used.

use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use gpt::GptConfig;
use machine::Machine;

use crate::operator::{BOOT, build};

/// Blocks of dm-verity, in bytes.
const BLOCK: u64 = 4096;

#[test]
fn a_corrupt_block_of_the_root_restarts_the_machine_instead_of_giving_garbage() {
    let build = build();
    let folder = tempfile::TempDir::new().unwrap();
    let disk = folder.path().join("disk.raw");
    build.make_disk(&disk, 2 << 30).unwrap();
    let (start, length) = {
        let table = GptConfig::new().open(&disk).unwrap();
        let root = table.partitions().get(&2).unwrap();
        let size = *table.logical_block_size();
        (
            root.bytes_start(size).unwrap(),
            root.bytes_len(size).unwrap(),
        )
    };
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&disk)
        .unwrap();
    // One bit in each block that holds anything, but for the superblock's: so
    // the first thing that is read from a file is wrong.
    let mut block = vec![0; BLOCK as usize];
    let mut changed = 0;
    for number in 1..length / BLOCK {
        let at = start + number * BLOCK;
        file.read_exact_at(&mut block, at).unwrap();
        if block.iter().any(|byte| *byte != 0) {
            block[100] ^= 1;
            file.write_all_at(&block, at).unwrap();
            changed += 1;
        }
    }
    assert!(changed > 100, "{changed} blocks");
    let mut machine = Machine::builder(&build, "root-corrupt")
        .disk(&disk)
        .append("loglevel=7")
        .start()
        .unwrap();
    machine.wait_for("is corrupted", BOOT).unwrap();
    machine.wait_end(Duration::from_secs(60)).unwrap();
    let console = machine.console();
    assert!(console.contains("Kernel panic"), "{console}");
    assert!(!console.contains("wherry: "), "{console}");
}

#[test]
fn the_root_cannot_be_written() {
    let build = build();
    let mut machine = crate::operator::restored(Machine::builder(&build, "root-read-only"));
    let told = crate::operator::fail(&mut machine, "touch /usr/bin/x 2>&1");
    assert!(told.contains("Read-only file system"), "{told}");
    crate::operator::power_off(machine);
}
