//! What a definition needs of the machine, looked up as the machine is now: its
//! device nodes. (The sources of its mounts are opened by the container's own
//! process: they can be on a disk.)

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use config::value::Pattern;
use definition::spec::Device;
use definition::{BOOT_DISK, Definition, STATE_DISK};
use nix::sys::stat::{major, minor};

use crate::storage;

/// The device nodes that a definition asks for. One that is named must exist;
/// of a pattern, those that do.
///
/// # Errors
/// The device that is not there.
pub fn devices(definition: &Definition, state_disk: Option<&Path>) -> Result<Vec<Device>, String> {
    let mut devices = Vec::new();
    for asked in &definition.devices {
        let paths = if asked == STATE_DISK {
            match state_disk {
                Some(disk) => with_partitions(disk),
                None => Vec::new(),
            }
        } else if asked == BOOT_DISK {
            // None where the root is on no disk, as of a test in a container.
            storage::boot_disk()?.into_iter().collect()
        } else if Pattern::from(asked.as_str()).is_exact() {
            vec![PathBuf::from(asked)]
        } else {
            matching(asked)
        };
        for path in paths {
            devices.push(device(&path)?);
        }
    }
    Ok(devices)
}

fn device(path: &Path) -> Result<Device, String> {
    let metadata = fs::metadata(path)
        .map_err(|error| format!("device {}: {error} (key devices)", path.display()))?;
    let kind = metadata.file_type();
    if !kind.is_block_device() && !kind.is_char_device() {
        return Err(format!("{} is not a device (key devices)", path.display()));
    }
    Ok(Device {
        path: path.to_owned(),
        block: kind.is_block_device(),
        major: u32::try_from(major(metadata.rdev())).unwrap_or(0),
        minor: u32::try_from(minor(metadata.rdev())).unwrap_or(0),
        mode: metadata.permissions().mode() & 0o777,
    })
}

/// The nodes that a pattern fits, whose last part alone may have `*` and `?`.
fn matching(pattern: &str) -> Vec<PathBuf> {
    let Some((folder, name)) = pattern.rsplit_once('/') else {
        return Vec::new();
    };
    let pattern = Pattern::from(name);
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            if !pattern.fits(entry.file_name().to_str()?) {
                return None;
            }
            // Only then: /dev has a hundred nodes.
            let path = entry.path();
            let kind = fs::metadata(&path).ok()?.file_type();
            (kind.is_char_device() || kind.is_block_device()).then_some(path)
        })
        .collect();
    paths.sort_unstable();
    paths
}

/// A disk's node and its partitions' (`vda`, `vda1`…, `nvme0n1p1`…).
fn with_partitions(disk: &Path) -> Vec<PathBuf> {
    let mut paths = vec![disk.to_owned()];
    if let Some(name) = disk.to_str() {
        paths.extend(matching(&format!("{name}*")).into_iter().filter(|path| {
            path.to_str()
                .and_then(|path| path.strip_prefix(name))
                .map(|rest| rest.strip_prefix('p').unwrap_or(rest))
                .is_some_and(|rest| {
                    !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit())
                })
        }));
    }
    paths
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_takes_only_devices() {
        let null = matching("/dev/nul*");
        assert_eq!(null, [PathBuf::from("/dev/null")]);
        assert_eq!(matching("/dev/n?ll"), null);
        assert!(matching("/dev/p*s").is_empty(), "/dev/pts is a folder");
    }

    #[test]
    fn a_device_that_is_named_must_exist() {
        let error = device(Path::new("/dev/nonexistent")).unwrap_err();
        assert!(error.starts_with("device /dev/nonexistent:"), "{error}");
        assert!(device(Path::new("/etc/passwd")).is_err());
        assert_eq!(
            device(Path::new("/dev/null")).map(|null| (null.major, null.minor)),
            Ok((1, 3))
        );
    }
}
