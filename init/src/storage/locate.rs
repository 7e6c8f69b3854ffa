//! Finds the state partition in sysfs.
//!
//! It is the partition named `state` on the disk that holds the booted root: of
//! several disks with a Wherry on each, every one keeps its own state. The
//! name, not the partition type, is what sysfs has (`PARTNAME` in `uevent`);
//! the container `state` compares the type too.
//!
//! The root is mounted before PID 1 starts, so its disk and the disk's
//! partitions are there at the first look; there is nothing to wait for.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use nix::sys::stat::{major, minor};

use super::Error;

/// The partition's name in the partition table.
pub const NAME: &str = "state";

/// Unused bytes behind the state partition from which on it is grown. More than
/// the back-up partition table (17 KiB) and one step of the alignment (1 MiB)
/// that growing leaves unused.
pub const WORTH_GROWING: u64 = 2 << 20;

/// sysfs gives sizes in sectors of this many bytes, whatever the disk's are.
const SECTOR: u64 = 512;

/// The disk of the root, and its state partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Location {
    /// The disk's name, such as `vda`.
    pub disk: String,
    /// Bytes of its sectors: its partition table begins in the second.
    pub sector_size: u64,
    /// The state partition, where there is one.
    pub partition: Option<Partition>,
}

/// The state partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its name, such as `vda6`.
    pub name: String,
    /// Its number in the partition table.
    pub number: u32,
    /// Bytes between its end and the next partition or the end of the disk.
    pub free_behind: u64,
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
    let Some(device) = resolve(&sys.join("dev/block").join(root))? else {
        return Ok(None);
    };
    let Some(disk) = disk_of(device)? else {
        return Ok(None);
    };
    let mut partitions = partitions(&disk)?;
    partitions.sort_by_key(|partition| partition.start);
    let end_of_disk = number(&disk.join("size"))?;
    let partition = partitions
        .iter()
        .position(|partition| partition.label.as_deref() == Some(NAME))
        .map(|index| {
            let found = &partitions[index];
            let limit = partitions
                .get(index + 1)
                .map_or(end_of_disk, |next| next.start);
            Partition {
                name: found.name.clone(),
                number: found.number,
                free_behind: limit.saturating_sub(found.start + found.size) * SECTOR,
            }
        });
    Ok(Some(Location {
        disk: name_of(&disk),
        sector_size: number(&disk.join("queue/logical_block_size"))?,
        partition,
    }))
}

/// Follows the first slave of device-mapper devices down to a partition, and
/// from there up to its disk.
fn disk_of(mut device: PathBuf) -> Result<Option<PathBuf>, Error> {
    // Deeper stacks than this do not occur; a bound ends any loop.
    for _ in 0..8 {
        if device.join("partition").exists() {
            return Ok(device.parent().map(Path::to_owned));
        }
        let slave = list(&device.join("slaves"))?.into_iter().next();
        match slave.map(|slave| resolve(&slave)).transpose()?.flatten() {
            Some(below) => device = below,
            None => return Ok(None),
        }
    }
    Ok(None)
}

struct Entry {
    name: String,
    number: u32,
    start: u64,
    size: u64,
    label: Option<String>,
}

fn partitions(disk: &Path) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::new();
    for directory in list(disk)? {
        if !directory.join("partition").exists() {
            continue;
        }
        let uevent = read(&directory.join("uevent"))?;
        entries.push(Entry {
            name: name_of(&directory),
            number: u32::try_from(number(&directory.join("partition"))?).unwrap_or(u32::MAX),
            start: number(&directory.join("start"))?,
            size: number(&directory.join("size"))?,
            label: uevent
                .lines()
                .find_map(|line| line.strip_prefix("PARTNAME="))
                .map(str::to_owned),
        });
    }
    Ok(entries)
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn resolve(link: &Path) -> Result<Option<PathBuf>, Error> {
    match fs::canonicalize(link) {
        Ok(path) => Ok(Some(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(Error::Path {
            doing: "resolve",
            path: link.to_owned(),
            source,
        }),
    }
}

/// The entries of a directory by name; none where it does not exist.
fn list(directory: &Path) -> Result<Vec<PathBuf>, Error> {
    let failed = |source| Error::Path {
        doing: "list",
        path: directory.to_owned(),
        source,
    };
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn read(attribute: &Path) -> Result<String, Error> {
    fs::read_to_string(attribute).map_err(|source| Error::Path {
        doing: "read",
        path: attribute.to_owned(),
        source,
    })
}

fn number(attribute: &Path) -> Result<u64, Error> {
    let text = read(attribute)?;
    text.trim().parse().map_err(|_| Error::Sysfs {
        path: attribute.to_owned(),
        text: text.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with one disk `vda` of `disk_sectors`, partitions of
    /// (number, name, start, size), and dm-0 on its partition 2.
    fn sysfs(disk_sectors: u64, partitions: &[(u32, &str, u64, u64)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let sys = directory.path();
        let disk = sys.join("devices/pci0/block/vda");
        let numbers = sys.join("dev/block");
        fs::create_dir_all(&numbers).unwrap();
        fs::create_dir_all(disk.join("slaves")).unwrap();
        fs::create_dir_all(disk.join("queue")).unwrap();
        fs::write(disk.join("queue/logical_block_size"), "512\n").unwrap();
        fs::write(disk.join("size"), format!("{disk_sectors}\n")).unwrap();
        for (number, label, start, size) in partitions {
            let name = format!("vda{number}");
            let partition = disk.join(&name);
            fs::create_dir_all(&partition).unwrap();
            fs::write(partition.join("partition"), format!("{number}\n")).unwrap();
            fs::write(partition.join("start"), format!("{start}\n")).unwrap();
            fs::write(partition.join("size"), format!("{size}\n")).unwrap();
            fs::write(
                partition.join("uevent"),
                format!("DEVNAME={name}\nPARTN={number}\nPARTNAME={label}\n"),
            )
            .unwrap();
            symlink(&partition, numbers.join(format!("253:{number}"))).unwrap();
        }
        let verity = sys.join("devices/virtual/block/dm-0");
        fs::create_dir_all(verity.join("slaves")).unwrap();
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
        let sys = sysfs(16384 + 33, &table);
        let location = locate_from(sys.path(), "254:0").unwrap().unwrap();
        assert_eq!((location.disk.as_str(), location.sector_size), ("vda", 512));
        assert_eq!(
            location.partition,
            Some(Partition {
                name: "vda11".to_owned(),
                number: 11,
                free_behind: 33 * 512,
            })
        );
    }

    #[test]
    fn space_counts_only_up_to_the_next_partition() {
        let mut table = SLOTS.to_vec();
        table.push((3, "state", 8192, 8192));
        table.push((4, "data", 20480, 8192));
        let sys = sysfs(1 << 30, &table);
        let location = locate_from(sys.path(), "253:2").unwrap().unwrap();
        assert_eq!(location.partition.unwrap().free_behind, 4096 * 512);
    }

    #[test]
    fn a_disk_without_a_state_partition_is_told_from_no_disk() {
        let sys = sysfs(16384, &SLOTS);
        let location = locate_from(sys.path(), "253:1").unwrap().unwrap();
        assert_eq!(location.partition, None);
        assert_eq!(locate_from(sys.path(), "0:2").unwrap(), None);
    }

    #[test]
    fn an_attribute_that_is_no_number_is_an_error_that_names_it() {
        let sys = sysfs(16384, &SLOTS);
        let size = sys.path().join("devices/pci0/block/vda/size");
        fs::write(&size, "many\n").unwrap();
        let error = locate_from(sys.path(), "253:1").unwrap_err();
        assert!(error.sentence().contains("many"), "{}", error.sentence());
    }
}
