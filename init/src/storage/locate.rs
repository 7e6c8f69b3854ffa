//! Finds the state partition in sysfs.
//!
//! It is the partition named `state` on the disk that holds the booted root
//! ([`layout::booted`]). The name, not the partition type, is what sysfs has; the
//! container `state` compares the type too.
//!
//! The root is mounted before PID 1 starts, so its disk and the disk's
//! partitions are there at the first look; there is nothing to wait for.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use block_device::sysfs::Sysfs;
use layout::booted::{StatePartition, state_partition};
use nix::sys::stat::{major, minor};

use super::Error;

/// Unused bytes behind the state partition from which on it is grown. More than
/// the back-up partition table (17 KiB) and one step of the alignment (1 MiB)
/// that growing leaves unused.
pub const WORTH_GROWING: u64 = 2 << 20;

/// The disk of the root, and its state partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The disk's name, such as `vda`.
    pub disk: String,
    /// Bytes of its sectors: its partition table begins in the second.
    pub sector_size: u64,
    /// The state partition, where there is one.
    pub partition: Option<StatePartition>,
}

/// The location of the state partition of the system whose root directory is
/// `root`; `None` where that root is on no partition of a disk.
pub fn locate(sys: &Path, root: &Path) -> Result<Option<Location>, Error> {
    let device = fs::metadata(root)
        .map_err(|source| Error::Path {
            doing: "look at",
            path: root.to_owned(),
            source,
        })?
        .dev();
    locate_from(sys, &format!("{}:{}", major(device), minor(device)))
}

/// As [`locate`], from the root's device number as `major:minor`.
fn locate_from(sys: &Path, root: &str) -> Result<Option<Location>, Error> {
    let sysfs = Sysfs::at(sys);
    let Some(device) = sysfs.device_of_number(root)? else {
        return Ok(None);
    };
    let Some(disk) = sysfs.disk_below(&device)? else {
        return Ok(None);
    };
    Ok(Some(Location {
        sector_size: sysfs.sector_size(&disk)?,
        partition: state_partition(&sysfs.partitions(&disk)?, sysfs.sectors(&disk)?),
        disk,
    }))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with one disk `vda`, partitions of (number, name, start, size), and
    /// dm-0 on its partition 2.
    fn sysfs(partitions: &[(u32, &str, u64, u64)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let sys = directory.path();
        let disk = sys.join("devices/pci0/block/vda");
        let (numbers, class) = (sys.join("dev/block"), sys.join("class/block"));
        let verity = sys.join("devices/virtual/block/dm-0");
        for folder in [
            &numbers,
            &class,
            &disk.join("queue"),
            &verity.join("slaves"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(disk.join("queue/logical_block_size"), "512\n").unwrap();
        fs::write(disk.join("size"), "16417\n").unwrap();
        symlink(&disk, class.join("vda")).unwrap();
        for (number, label, start, size) in partitions {
            let name = format!("vda{number}");
            let partition = disk.join(&name);
            fs::create_dir_all(&partition).unwrap();
            fs::write(partition.join("partition"), format!("{number}\n")).unwrap();
            fs::write(partition.join("start"), format!("{start}\n")).unwrap();
            fs::write(partition.join("size"), format!("{size}\n")).unwrap();
            fs::write(partition.join("uevent"), format!("PARTNAME={label}\n")).unwrap();
            symlink(&partition, numbers.join(format!("253:{number}"))).unwrap();
            symlink(&partition, class.join(name)).unwrap();
        }
        symlink(disk.join("vda2"), verity.join("slaves/vda2")).unwrap();
        symlink(&verity, numbers.join("254:0")).unwrap();
        directory
    }

    const SLOTS: [(u32, &str, u64, u64); 3] = [
        (1, "esp", 2048, 2048),
        (2, "wherry_1", 4096, 2048),
        (10, "_empty", 6144, 2048),
    ];

    #[test]
    fn the_state_partition_is_found_below_the_verity_device() {
        let mut table = SLOTS.to_vec();
        table.push((11, "state", 8192, 8192));
        let sys = sysfs(&table);
        let location = locate_from(sys.path(), "254:0").unwrap().unwrap();
        assert_eq!((location.disk.as_str(), location.sector_size), ("vda", 512));
        assert_eq!(
            location.partition,
            Some(StatePartition {
                device: "vda11".to_owned(),
                number: 11,
                free_behind: 33 * 512,
            })
        );
    }

    #[test]
    fn a_disk_without_a_state_partition_is_told_from_no_disk() {
        let sys = sysfs(&SLOTS);
        let location = locate_from(sys.path(), "253:1").unwrap().unwrap();
        assert_eq!(location.partition, None);
        assert_eq!(locate_from(sys.path(), "0:2").unwrap(), None);
    }

    #[test]
    fn an_attribute_that_is_no_number_is_an_error_that_names_it() {
        let sys = sysfs(&SLOTS);
        let size = sys.path().join("devices/pci0/block/vda/size");
        fs::write(&size, "many\n").unwrap();
        let error = locate_from(sys.path(), "253:1").unwrap_err();
        assert!(error.sentence().contains("many"), "{}", error.sentence());
    }
}
