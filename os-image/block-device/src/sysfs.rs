//! What sysfs says of block devices. `layout::booted` draws the conclusions.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use layout::booted::{Device, Partition};

/// The kernel's sysfs.
#[derive(Clone, Debug)]
pub struct Sysfs(PathBuf);

/// sysfs could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SysfsError {
    /// A file, folder or link could not be read.
    #[error("cannot {doing} {}", path.display())]
    Path {
        /// What was tried, as in "cannot {doing} …".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// An attribute is not a number.
    #[error("{} holds '{text}': not understood", path.display())]
    Value {
        /// The attribute.
        path: PathBuf,
        /// What it held.
        text: String,
    },
}

impl Sysfs {
    /// The sysfs that is mounted there, as a rule at `/sys`.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The device of a number, as `major:minor`; `None` where there is none.
    ///
    /// # Errors
    /// sysfs could not be read.
    pub fn device_of_number(&self, number: &str) -> Result<Option<Device>, SysfsError> {
        self.device_at(&self.0.join("dev/block").join(number))
    }

    /// The device that the kernel calls so, such as `vda2`; `None` where there is
    /// none.
    ///
    /// # Errors
    /// sysfs could not be read.
    pub fn device(&self, name: &str) -> Result<Option<Device>, SysfsError> {
        self.device_at(&self.folder(name))
    }

    /// The device-mapper device of a name, such as `root`; `None` where there is
    /// none.
    ///
    /// # Errors
    /// sysfs could not be read.
    pub fn mapped_device(&self, name: &str) -> Result<Option<Device>, SysfsError> {
        for device in list(&self.0.join("class/block"))? {
            let mapped = fs::read_to_string(self.folder(&device).join("dm/name"));
            if mapped.is_ok_and(|found| found.trim() == name) {
                return self.device(&device);
            }
        }
        Ok(None)
    }

    /// The name of the disk that a device is on; `None` where it is on no
    /// partition of a disk.
    ///
    /// # Errors
    /// sysfs could not be read.
    pub fn disk_below(&self, device: &Device) -> Result<Option<String>, SysfsError> {
        layout::booted::disk_below(device, &mut |name| self.device(name))
    }

    /// The partitions of a disk that the kernel knows, in the order of their
    /// names.
    ///
    /// # Errors
    /// sysfs could not be read, or there is no such disk.
    pub fn partitions(&self, disk: &str) -> Result<Vec<Partition>, SysfsError> {
        let disk = self.folder(disk);
        let mut partitions = Vec::new();
        for device in list(&disk)? {
            let folder = disk.join(&device);
            if !folder.join("partition").exists() {
                continue;
            }
            let uevent = read(&folder.join("uevent"))?;
            partitions.push(Partition {
                device,
                number: number(&folder.join("partition"))?
                    .try_into()
                    .unwrap_or(u32::MAX),
                start: number(&folder.join("start"))?,
                sectors: number(&folder.join("size"))?,
                name: uevent
                    .lines()
                    .find_map(|line| line.strip_prefix("PARTNAME="))
                    .map(str::to_owned),
            });
        }
        Ok(partitions)
    }

    /// A device's size in sectors of [`layout::booted::SECTOR`] bytes.
    ///
    /// # Errors
    /// sysfs could not be read, or there is no such device.
    pub fn sectors(&self, device: &str) -> Result<u64, SysfsError> {
        number(&self.folder(device).join("size"))
    }

    /// Bytes of a disk's sectors, as its partition table counts them.
    ///
    /// # Errors
    /// sysfs could not be read, or there is no such disk.
    pub fn sector_size(&self, disk: &str) -> Result<u64, SysfsError> {
        number(&self.folder(disk).join("queue/logical_block_size"))
    }

    /// A device's number as `major:minor`.
    ///
    /// # Errors
    /// sysfs could not be read, or there is no such device.
    pub fn device_number(&self, device: &str) -> Result<String, SysfsError> {
        read(&self.folder(device).join("dev")).map(|number| number.trim().to_owned())
    }

    fn folder(&self, device: &str) -> PathBuf {
        self.0.join("class/block").join(device)
    }

    fn device_at(&self, link: &Path) -> Result<Option<Device>, SysfsError> {
        let path = match fs::canonicalize(link) {
            Ok(path) => path,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => {
                return Err(SysfsError::Path {
                    doing: "resolve",
                    path: link.to_owned(),
                    source,
                });
            }
        };
        let is_partition = path.join("partition").exists();
        Ok(Some(Device {
            name: name_of(&path),
            disk: path.parent().filter(|_| is_partition).map(name_of),
            slaves: list(&path.join("slaves"))?,
        }))
    }
}

fn name_of(path: &Path) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

/// The names in a folder, sorted; none where it does not exist.
fn list(folder: &Path) -> Result<Vec<String>, SysfsError> {
    let failed = |source| SysfsError::Path {
        doing: "list",
        path: folder.to_owned(),
        source,
    };
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(failed(source)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(name_of(&entry.map_err(failed)?.path()));
    }
    names.sort();
    Ok(names)
}

fn read(attribute: &Path) -> Result<String, SysfsError> {
    fs::read_to_string(attribute).map_err(|source| SysfsError::Path {
        doing: "read",
        path: attribute.to_owned(),
        source,
    })
}

fn number(attribute: &Path) -> Result<u64, SysfsError> {
    let text = read(attribute)?;
    text.trim().parse().map_err(|_| SysfsError::Value {
        path: attribute.to_owned(),
        text: text.trim().to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// A sysfs with one disk `vda` of 16,384 sectors, its partitions 2 and 10,
    /// and dm-0, `root`, on partition 2.
    fn sysfs() -> (tempfile::TempDir, Sysfs) {
        let folder = tempfile::tempdir().unwrap();
        let sys = folder.path();
        let disk = sys.join("devices/pci0/block/vda");
        let verity = sys.join("devices/virtual/block/dm-0");
        for folder in [
            &sys.join("dev/block"),
            &sys.join("class/block"),
            &disk.join("queue"),
            &disk.join("slaves"),
            &verity.join("slaves"),
            &verity.join("dm"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(disk.join("queue/logical_block_size"), "4096\n").unwrap();
        fs::write(disk.join("size"), "16384\n").unwrap();
        fs::write(verity.join("dm/name"), "root\n").unwrap();
        let mut devices = vec![
            ("vda".to_owned(), disk.clone()),
            ("dm-0".to_owned(), verity),
        ];
        for (number, name) in [(2, "wherry_1"), (10, "state")] {
            let device = format!("vda{number}");
            let partition = disk.join(&device);
            fs::create_dir(&partition).unwrap();
            for (attribute, text) in [
                ("dev", format!("253:{number}\n")),
                ("partition", format!("{number}\n")),
                ("start", format!("{}\n", number * 1024)),
                ("size", "1024\n".to_owned()),
                ("uevent", format!("DEVNAME={device}\nPARTNAME={name}\n")),
            ] {
                fs::write(partition.join(attribute), text).unwrap();
            }
            symlink(&partition, sys.join(format!("dev/block/253:{number}"))).unwrap();
            devices.push((device, partition));
        }
        for (name, path) in devices {
            symlink(path, sys.join("class/block").join(name)).unwrap();
        }
        let class = sys.join("class/block");
        symlink(class.join("dm-0"), sys.join("dev/block/254:0")).unwrap();
        symlink(class.join("vda2"), class.join("dm-0/slaves/vda2")).unwrap();
        let sysfs = Sysfs::at(sys);
        (folder, sysfs)
    }

    #[test]
    fn the_disk_of_the_root_is_found_by_number_and_by_name() {
        let (_folder, sysfs) = sysfs();
        for device in [
            sysfs.device_of_number("254:0").unwrap(),
            sysfs.device_of_number("253:10").unwrap(),
            sysfs.mapped_device("root").unwrap(),
        ] {
            let disk = sysfs.disk_below(&device.unwrap()).unwrap();
            assert_eq!(disk.as_deref(), Some("vda"));
        }
        assert_eq!(sysfs.device_of_number("0:2").unwrap(), None);
        assert_eq!(sysfs.mapped_device("data").unwrap(), None);
        let disk = sysfs.device("vda").unwrap().unwrap();
        assert_eq!(sysfs.disk_below(&disk).unwrap(), None);
    }

    #[test]
    fn partitions_and_sizes_are_what_the_attributes_say() {
        let (_folder, sysfs) = sysfs();
        let partition = |number: u32, name: &str| Partition {
            device: format!("vda{number}"),
            number,
            start: u64::from(number) * 1024,
            sectors: 1024,
            name: Some(name.to_owned()),
        };
        assert_eq!(
            sysfs.partitions("vda").unwrap(),
            [partition(10, "state"), partition(2, "wherry_1")]
        );
        assert_eq!(sysfs.sectors("vda").unwrap(), 16384);
        assert_eq!(sysfs.sector_size("vda").unwrap(), 4096);
        assert_eq!(sysfs.device_number("vda2").unwrap(), "253:2");
    }

    #[test]
    fn an_attribute_that_is_no_number_is_an_error_that_names_it() {
        let (folder, sysfs) = sysfs();
        let size = folder.path().join("devices/pci0/block/vda/size");
        fs::write(size, "many\n").unwrap();
        let error = sysfs.sectors("vda").unwrap_err().to_string();
        assert!(error.contains("size holds 'many'"), "{error}");
        let error = sysfs.sectors("vdb").unwrap_err().to_string();
        assert!(error.contains("vdb/size"), "{error}");
    }
}
