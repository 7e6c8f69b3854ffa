//! Forgotten ranges are read from the medium. Needs a loop device, and so user
//! 0.
#![allow(clippy::unwrap_used)] // All of it is a test.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;

use block_device::{BlockDevice, Disk};
use requirement::LoopDevice;

const LENGTH: usize = 8 << 20;

#[test]
fn what_is_forgotten_is_read_from_the_medium() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("medium");
    let medium = File::create(&path).unwrap();
    medium.set_len(LENGTH as u64).unwrap();
    let Some(device) = LoopDevice::attach(&path, &[]) else {
        return;
    };
    let node = OpenOptions::new()
        .read(true)
        .write(true)
        .open(device.path())
        .unwrap();
    let disk = Disk::new(node).unwrap();
    let first = |bytes: &[u8]| (bytes[0], bytes[LENGTH - 1]);
    let mut read = vec![0; LENGTH];
    disk.write_at(&vec![1; LENGTH], 0).unwrap();
    disk.flush().unwrap();
    disk.read_at(&mut read, 0).unwrap();
    assert_eq!(first(&read), (1, 1));
    // The medium goes bad behind the kernel's back.
    medium.write_all_at(&vec![2; LENGTH], 0).unwrap();
    disk.read_at(&mut read, 0).unwrap();
    assert_eq!(first(&read), (1, 1), "from the cache");
    disk.forget(0, LENGTH as u64).unwrap();
    disk.read_at(&mut read, 0).unwrap();
    assert!(read.iter().all(|byte| *byte == 2), "from the medium");
}
