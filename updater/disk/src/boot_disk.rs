//! Which disk the running root is on.

use std::path::{Path, PathBuf};

use block_device::sysfs::{Sysfs, SysfsError};
use layout::command_line::ROOT_DEVICE;

use crate::DiskError;

/// The device node of the disk that holds the running root: the parent of the
/// partition that is below the dm-verity device of the root.
///
/// # Errors
/// sysfs knows no such device.
pub fn boot_disk() -> Result<PathBuf, DiskError> {
    let name = disk_of_root(&Sysfs::at("/sys"))?;
    Ok(Path::new("/dev").join(name))
}

fn disk_of_root(sysfs: &Sysfs) -> Result<String, DiskError> {
    let failed = |error: SysfsError| {
        DiskError::BootDisk(match std::error::Error::source(&error) {
            Some(source) => format!("{error}: {source}"),
            None => error.to_string(),
        })
    };
    let root = sysfs
        .mapped_device(ROOT_DEVICE)
        .map_err(failed)?
        .ok_or_else(|| {
            DiskError::BootDisk(format!("no dm-verity device is called '{ROOT_DEVICE}'"))
        })?;
    sysfs.disk_below(&root).map_err(failed)?.ok_or_else(|| {
        DiskError::BootDisk(format!(
            "the device '{ROOT_DEVICE}' is on no partition of a disk"
        ))
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_disk_is_found_below_the_verity_device() {
        let sys = tempfile::tempdir().unwrap();
        let class = sys.path().join("class/block");
        let disk = sys.path().join("devices/pci0/block/nvme0n1");
        let partition = disk.join("nvme0n1p2");
        let (other, root) = (
            sys.path().join("devices/virtual/block/dm-0"),
            sys.path().join("devices/virtual/block/dm-1"),
        );
        for folder in [
            &class,
            &partition,
            &other.join("dm"),
            &root.join("dm"),
            &root.join("slaves"),
        ] {
            fs::create_dir_all(folder).unwrap();
        }
        fs::write(partition.join("partition"), "2\n").unwrap();
        fs::write(other.join("dm/name"), "data\n").unwrap();
        for (name, target) in [
            ("dm-0", &other),
            ("dm-1", &root),
            ("nvme0n1", &disk),
            ("nvme0n1p2", &partition),
        ] {
            symlink(target, class.join(name)).unwrap();
        }
        let sysfs = Sysfs::at(sys.path());
        let error = disk_of_root(&sysfs).unwrap_err().to_string();
        assert!(error.contains("no dm-verity device"), "{error}");
        fs::write(root.join("dm/name"), "root\n").unwrap();
        let error = disk_of_root(&sysfs).unwrap_err().to_string();
        assert!(error.contains("on no partition"), "{error}");
        symlink(&partition, root.join("slaves/nvme0n1p2")).unwrap();
        assert_eq!(disk_of_root(&sysfs).unwrap(), "nvme0n1");
    }
}
