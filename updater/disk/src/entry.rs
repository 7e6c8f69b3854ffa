//! Boot entries on the ESP, and the roots that they name.

use block_device::BlockDevice;
use esp::{Error, File, FileSystem};
use layout::command_line;
use layout::entry::{EntryName, FOLDER};
use release::{RootHash, UKI_HEAD, sections};
use slots::Entry;

use crate::DiskError;

/// The longest command line that is read.
const MAX_COMMAND_LINE: u64 = 16 * 1024;

/// All entries that are ours by their names. A second name of one file, which an
/// interrupted renaming has left, is not among them: the next change of the ESP
/// removes it.
pub fn list<D: BlockDevice>(esp: &FileSystem<D>) -> Result<Vec<Entry>, DiskError> {
    let files = match esp.list(FOLDER) {
        Ok(files) => files,
        Err(Error::NotFound(_)) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut entries = Vec::new();
    let twins = esp.findings().twins;
    for file in files.into_iter().filter(|file| !file.is_folder) {
        if twins.contains(&format!("{FOLDER}/{}", file.name)) {
            continue;
        }
        let Ok(EntryName { version, tries }) = file.name.parse() else {
            continue;
        };
        let root_hash = match esp.file(&format!("{FOLDER}/{}", file.name)) {
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

/// The root that a kernel image's command line names; `None` if it is not a
/// complete image.
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
    Ok(command_line::root_hash(&String::from_utf8_lossy(&line)))
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
    Ok(format!("{FOLDER}/{}", checked(file)?))
}
