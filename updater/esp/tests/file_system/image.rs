//! Images to test with, and what is in them.

use std::collections::BTreeMap;
use std::io::Write as _;

use block_device::BlockDevice;
use esp::{Error, FileSystem};
use machine::{Build, Tools};

/// How an image is to be.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub sector: usize,
    pub per_cluster: usize,
    pub clusters: usize,
}

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

/// An empty file system (FAT specification, sections 3 to 5).
pub fn format(shape: Shape) -> Vec<u8> {
    let Shape {
        sector,
        per_cluster,
        clusters,
    } = shape;
    let reserved = 8;
    let table = ((clusters + 2) * 4).div_ceil(sector);
    let total = reserved + 2 * table + clusters * per_cluster;
    let mut image = vec![0; total * sector];
    let mut put = |at: usize, bytes: &[u8]| image[at..at + bytes.len()].copy_from_slice(bytes);
    for start in [0, 6 * sector] {
        put(start, &[0xeb, 0x58, 0x90]);
        put(start + 3, b"mkfs.fat");
        put(start + 11, &(sector as u16).to_le_bytes());
        put(start + 13, &[per_cluster as u8]);
        put(start + 14, &(reserved as u16).to_le_bytes());
        put(start + 16, &[2]);
        put(start + 21, &[0xf8]);
        put(start + 24, &[32, 0, 2, 0]);
        put(start + 32, &(total as u32).to_le_bytes());
        put(start + 36, &(table as u32).to_le_bytes());
        put(start + 44, &2u32.to_le_bytes());
        put(start + 48, &[1, 0, 6, 0]);
        put(start + 64, &[0x80, 0, 0x29, 1, 2, 3, 4]);
        put(start + 71, b"NO NAME    FAT32   ");
        put(start + 510, &[0x55, 0xaa]);
    }
    for start in [sector, 7 * sector] {
        put(start, b"RRaA");
        put(start + 484, b"rrAa");
        put(start + 488, &(clusters as u32 - 1).to_le_bytes());
        put(start + 492, &3u32.to_le_bytes());
        put(start + 508, &[0, 0, 0x55, 0xaa]);
    }
    for copy in 0..2 {
        let entries = [0x0fff_fff8u32, 0x0fff_ffff, 0x0fff_ffff];
        for (number, value) in entries.iter().enumerate() {
            let at = (reserved + copy * table) * sector + number * 4;
            put(at, &value.to_le_bytes());
        }
    }
    image
}

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

/// The tools tree, where there is one.
pub fn tools() -> Option<Tools> {
    let tools = Build::from_env().and_then(|build| build.tools());
    if let Err(error) = &tools {
        eprintln!("fsck.vfat and mtools are not asked: {error}");
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
