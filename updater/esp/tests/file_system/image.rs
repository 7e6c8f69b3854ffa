//! Images to test with, and what is in them.

use std::collections::BTreeMap;
use std::io::Write as _;

use block_device::BlockDevice;
use esp::{Error, FileSystem};
use machine::{Build, Tools};

pub use crate::format::{Shape, format};

/// As small as it can be and have something in it.
pub const SMALL: Shape = Shape {
    sector: 512,
    per_cluster: 1,
    clusters: 300,
};
/// The smallest that every implementation takes for FAT32.
pub const WHOLE: Shape = Shape {
    sector: 512,
    per_cluster: 1,
    clusters: 65_600,
};

/// What is in a file system: content by path, `None` of a folder.
pub type Content = BTreeMap<String, Option<Vec<u8>>>;

/// Reads all of it.
pub fn content<D: BlockDevice>(system: &FileSystem<D>) -> Result<Content, Error> {
    let mut content = Content::new();
    let mut folders = vec![String::new()];
    while let Some(folder) = folders.pop() {
        for entry in system.list(&folder)? {
            let path = if folder.is_empty() {
                entry.name
            } else {
                format!("{folder}/{}", entry.name)
            };
            if entry.is_folder {
                content.insert(path.clone(), None);
                folders.push(path);
            } else {
                let file = system.file(&path)?;
                let mut bytes = vec![0; file.length() as usize];
                file.read_at(&mut bytes, 0)?;
                content.insert(path, Some(bytes));
            }
        }
    }
    Ok(content)
}

/// Makes or replaces a file.
pub fn write<D: BlockDevice>(
    system: &FileSystem<D>,
    path: &str,
    bytes: &[u8],
) -> Result<(), Error> {
    let mut writer = system.replace(path, bytes.len() as u64)?;
    for part in bytes.chunks(700) {
        writer.write(part)?;
    }
    writer.finish()
}

/// Bytes that differ from file to file and from place to place.
pub fn bytes(seed: u32, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9) | 1;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state as u8
        })
        .collect()
}

/// The tools tree; where there is none, what needs it is skipped.
pub fn tools() -> Option<Tools> {
    let tools = Build::from_env().and_then(|build| build.tools());
    if let Err(error) = &tools {
        requirement::skip(format!("needs fsck.vfat and mtools: {error}"));
    }
    tools.ok()
}

/// What fsck.vfat says against an image; empty if nothing.
pub fn fsck(tools: &Tools, image: &[u8]) -> String {
    let mut file = tempfile::NamedTempFile::new_in("/dev/shm").unwrap();
    file.write_all(image).unwrap();
    let output = tools
        .command("fsck.vfat")
        .unwrap()
        .arg("-n")
        .arg(file.path())
        .output()
        .unwrap();
    if output.status.success() {
        String::new()
    } else {
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    }
}
