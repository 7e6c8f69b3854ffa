//! Boot entries: unified kernel images in `EFI/Linux`, whose names say version
//! and count (Boot Loader Specification, "Boot counting").

use block_device::BlockDevice;
use esp::{Error, File, FileSystem};
use release::{RootHash, UKI_HEAD, Version, sections};
use slots::{Entry, Tries};

use crate::{DiskError, ENTRIES};

/// The longest command line that is read.
const MAX_COMMAND_LINE: u64 = 16 * 1024;

/// All entries that are ours by their names. A second name of one file, which an
/// interrupted renaming has left, is not among them: the next change of the ESP
/// removes it.
pub fn list<D: BlockDevice>(esp: &FileSystem<D>) -> Result<Vec<Entry>, DiskError> {
    let files = match esp.list(ENTRIES) {
        Ok(files) => files,
        Err(Error::NotFound(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut entries = Vec::new();
    let twins = esp.findings().twins;
    for file in files.into_iter().filter(|file| !file.is_folder) {
        if twins.contains(&format!("{ENTRIES}/{}", file.name)) {
            continue;
        }
        let Some((version, tries)) = parse(&file.name) else {
            continue;
        };
        let root_hash = match esp.file(&format!("{ENTRIES}/{}", file.name)) {
            Ok(image) => root_hash(&image)?,
            Err(Error::Damaged { .. }) => None,
            Err(error) => return Err(error.into()),
        };
        entries.push(Entry {
            version,
            tries,
            length: file.length,
            root_hash,
            file: file.name,
        });
    }
    entries.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(entries)
}

/// Version and count of an entry's name, `wherry_<version>[+left[-done]].efi`.
fn parse(file: &str) -> Option<(Version, Option<Tries>)> {
    let (name, extension) = file.split_at_checked(file.len().checked_sub(4)?)?;
    if !extension.eq_ignore_ascii_case(".efi") {
        return None;
    }
    let name = name.strip_prefix("wherry_")?;
    let (version, tries) = match name.find('+') {
        Some(at) => (&name[..at], Some(name[at..].parse().ok()?)),
        None => (name, None),
    };
    Some((version.parse().ok()?, tries))
}

/// The root that a kernel image's command line names; `None` where it is no
/// whole image.
fn root_hash<D: BlockDevice>(image: &File<'_, D>) -> Result<Option<RootHash>, DiskError> {
    let mut head = vec![0; image.length().min(UKI_HEAD as u64) as usize];
    image.read_at(&mut head, 0)?;
    let Ok(sections) = sections(&head) else {
        return Ok(None);
    };
    let is_whole = sections.iter().all(|section| {
        section
            .offset
            .checked_add(section.padded)
            .is_some_and(|end| end <= image.length())
    });
    let line = sections.iter().find(|section| section.name == ".cmdline");
    let Some(section) = line.filter(|_| is_whole) else {
        return Ok(None);
    };
    let mut line = vec![0; section.length.min(MAX_COMMAND_LINE) as usize];
    image.read_at(&mut line, section.offset)?;
    Ok(crate::booted(&String::from_utf8_lossy(&line)))
}

/// A name of a file in the entries' folder.
pub fn checked(file: &str) -> Result<&str, DiskError> {
    if file.contains(['/', '\\']) || file.is_empty() {
        return Err(DiskError::Name(file.to_owned()));
    }
    Ok(file)
}

/// The path of a file in the entries' folder.
pub fn path(file: &str) -> Result<String, DiskError> {
    Ok(format!("{ENTRIES}/{}", checked(file)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_says_version_and_count() {
        let tries = |left, done| Some(Tries { left, done });
        for (name, wanted) in [
            ("wherry_1.0.efi", Some(("1.0", None))),
            ("wherry_1.0.EFI", Some(("1.0", None))),
            ("wherry_1.0+3.efi", Some(("1.0", tries(3, 0)))),
            ("wherry_2.0~rc1-4+2-1.efi", Some(("2.0~rc1-4", tries(2, 1)))),
            ("wherry_1.0+3-0.new", None),
            ("wherry_1.0+.efi", None),
            ("wherry_1.0+3-.efi", None),
            ("wherry_1.0+3-0+1.efi", None),
            ("wherry_one.efi", None),
            ("wherry.new", None),
            (".efi", None),
            ("ä", None),
            ("", None),
        ] {
            let found = parse(name).map(|(version, tries)| (version.to_string(), tries));
            let wanted = wanted.map(|(version, tries)| (version.to_owned(), tries));
            assert_eq!(found, wanted, "{name}");
        }
    }
}
