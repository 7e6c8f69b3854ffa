//! Which disk the running root is on, and which root runs.

use std::fs;
use std::path::{Path, PathBuf};

use release::RootHash;

use crate::DiskError;

/// The name of the root's device-mapper device on the kernel's command line.
const ROOT: &str = "root";

/// The root hash that a kernel's command line names (`roothash=`), which says
/// which release runs.
pub fn booted(command_line: &str) -> Option<RootHash> {
    command_line
        .split(|character: char| character.is_whitespace() || character == '\0')
        .find_map(|word| word.strip_prefix("roothash="))?
        .parse()
        .ok()
}

/// The device node of the disk that holds the running root: the parent of the
/// partition that is below the dm-verity device `root`.
///
/// # Errors
/// sysfs knows no such device.
pub fn boot_disk() -> Result<PathBuf, DiskError> {
    let name = disk_of_root(Path::new("/sys/class/block"))?;
    Ok(Path::new("/dev").join(name))
}

fn disk_of_root(class: &Path) -> Result<String, DiskError> {
    let unknown = |why: String| DiskError::BootDisk(why);
    let list = |folder: &Path| -> Result<Vec<PathBuf>, DiskError> {
        let mut names: Vec<PathBuf> = fs::read_dir(folder)
            .map_err(|error| unknown(format!("{}: {error}", folder.display())))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .collect();
        names.sort();
        Ok(names)
    };
    let root = list(class)?
        .into_iter()
        .find(|device| {
            fs::read_to_string(device.join("dm/name")).is_ok_and(|name| name.trim() == ROOT)
        })
        .ok_or_else(|| unknown(format!("no dm-verity device is called '{ROOT}'")))?;
    for slave in list(&root.join("slaves"))? {
        let Ok(partition) = fs::canonicalize(&slave) else {
            continue;
        };
        if partition.join("partition").exists()
            && let Some(disk) = partition.parent().and_then(Path::file_name)
        {
            return Ok(disk.to_string_lossy().into_owned());
        }
    }
    Err(unknown(format!(
        "the device '{ROOT}' is on no partition of a disk"
    )))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn the_command_line_names_the_root() {
        let hash = "5a".repeat(32);
        let line = format!("dm-mod.create=\"root,,,ro\" panic=-1 roothash={hash}\n\0");
        assert_eq!(booted(&line).unwrap().to_string(), hash);
        assert_eq!(booted("roothash=12 ro"), None);
        assert_eq!(booted(""), None);
    }

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
        for (name, target) in [("dm-0", &other), ("dm-1", &root), ("nvme0n1", &disk)] {
            symlink(target, class.join(name)).unwrap();
        }
        let error = disk_of_root(&class).unwrap_err().to_string();
        assert!(error.contains("no dm-verity device"), "{error}");
        fs::write(root.join("dm/name"), "root\n").unwrap();
        let error = disk_of_root(&class).unwrap_err().to_string();
        assert!(error.contains("on no partition"), "{error}");
        symlink(&partition, root.join("slaves/nvme0n1p2")).unwrap();
        assert_eq!(disk_of_root(&class).unwrap(), "nvme0n1");
    }
}
