//! The boot loader: systemd-boot, twice on the ESP, because some firmwares look
//! in one place and some in the other.

use block_device::BlockDevice;
use esp::{Error, FileSystem};
use layout::entry::LOADERS;
use release::{LOADER_SECTION, UKI_HEAD, Version, loader_version, sections};

use crate::DiskError;

/// That section is not longer.
const MAX_SECTION: u64 = 4096;

/// The older version of the copies that are systemd-boot; `None` where none is.
pub fn installed<D: BlockDevice>(esp: &FileSystem<D>) -> Result<Option<Version>, DiskError> {
    let mut oldest: Option<Version> = None;
    for path in LOADERS {
        let Some(version) = version_of_copy(esp, path)? else {
            continue;
        };
        oldest = Some(oldest.map_or(version.clone(), |oldest| oldest.min(version)));
    }
    Ok(oldest)
}

fn version_of_copy<D: BlockDevice>(
    esp: &FileSystem<D>,
    path: &str,
) -> Result<Option<Version>, DiskError> {
    let file = match esp.file(path) {
        Ok(file) => file,
        Err(
            Error::NotFound(_) | Error::NotAFolder(_) | Error::IsFolder(_) | Error::Damaged { .. },
        ) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    Ok(version(file.length(), |bytes, offset| {
        file.read_at(bytes, offset)
    })?)
}

/// The version of a systemd-boot.
fn version<E>(
    length: u64,
    mut read: impl FnMut(&mut [u8], u64) -> Result<(), E>,
) -> Result<Option<Version>, E> {
    let mut head = vec![0; length.min(UKI_HEAD as u64) as usize];
    read(&mut head, 0)?;
    let Ok(sections) = sections(&head) else {
        return Ok(None);
    };
    let Some(section) = sections.iter().find(|section| {
        section.name == LOADER_SECTION
            && section
                .offset
                .checked_add(section.length)
                .is_some_and(|end| end <= length)
    }) else {
        return Ok(None);
    };
    let mut text = vec![0; section.length.min(MAX_SECTION) as usize];
    read(&mut text, section.offset)?;
    let text = String::from_utf8_lossy(&text);
    Ok(loader_version(&text).and_then(Result::ok))
}

/// Replaces the copies that are older than `loader`.
pub fn update<D: BlockDevice>(esp: &FileSystem<D>, loader: &[u8]) -> Result<bool, DiskError> {
    let read = |bytes: &mut [u8], offset: u64| -> Result<(), DiskError> {
        let start = offset as usize;
        match loader.get(start..start + bytes.len()) {
            Some(part) => bytes.copy_from_slice(part),
            None => return Err(DiskError::Loader("it is cut off".to_owned())),
        }
        Ok(())
    };
    let Some(new) = version(loader.len() as u64, read)? else {
        return Err(DiskError::Loader(
            "the release's loader is not a systemd-boot with a version".to_owned(),
        ));
    };
    let mut changed = false;
    for path in LOADERS {
        match version_of_copy(esp, path)? {
            Some(version) if version < new => {}
            // As new or newer, or someone else's.
            _ => continue,
        }
        let mut writer = esp.replace(path, loader.len() as u64)?;
        writer.write(loader)?;
        writer.finish()?;
        let file = esp.file(path)?;
        file.forget()?;
        let mut written = vec![0; loader.len()];
        file.read_at(&mut written, 0)?;
        if written != loader {
            return Err(DiskError::ReadBack(format!(
                "'/{path}' on the EFI system partition"
            )));
        }
        changed = true;
    }
    Ok(changed)
}
