//! What is forgotten is read from the medium. Needs a loop device, and so user 0.
#![allow(clippy::unwrap_used)] // All of it is a test.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;

use block_device::{BlockDevice, Disk};

const LENGTH: usize = 8 << 20;

/// A loop device, detached when dropped.
struct Loop(PathBuf);

impl Loop {
    fn attach(file: &std::path::Path) -> Option<Self> {
        let output = Command::new("/usr/sbin/losetup")
            .args(["--find", "--show"])
            .arg(file)
            .output()
            .ok()?;
        if !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            eprintln!("no loop device, so this test shows nothing: {why}");
            return None;
        }
        let path = String::from_utf8(output.stdout).unwrap();
        Some(Self(path.trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        let detached = Command::new("/usr/sbin/losetup")
            .arg("--detach")
            .arg(&self.0)
            .status();
        assert!(detached.is_ok_and(|status| status.success()));
    }
}

#[test]
fn what_is_forgotten_is_read_from_the_medium() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("medium");
    let medium = File::create(&path).unwrap();
    medium.set_len(LENGTH as u64).unwrap();
    let Some(device) = Loop::attach(&path) else {
        return;
    };
    let node = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&device.0)
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
