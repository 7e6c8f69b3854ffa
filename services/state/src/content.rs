//! What is in the partition.
//!
//! The order of the questions keeps data safe: a whole ext4 superblock is
//! believed before the traces that another file system may have left beside it;
//! any other file system's mark is believed before a damaged ext4; and only a
//! partition without any mark, all zero where a file system would begin, is
//! empty.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use layout::ext4::{self, Superblock};
use layout::signature::{self, HEAD};

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: it may be used.
    Empty,
    /// An ext4 file system.
    Ext4(Superblock),
    /// An ext4 file system without its superblock.
    Ext4Damaged {
        /// Copies of the superblock, as (block, block size).
        copies: Vec<(u64, u64)>,
    },
    /// Something else that is known.
    Foreign(&'static str),
    /// Data of no known form.
    Unknown,
}

/// Looks at a partition, or a stretch of a disk, that begins at byte `start` of
/// `file` and has `length` bytes.
///
/// # Errors
/// It could not be read.
pub fn examine(file: &File, start: u64, length: u64) -> io::Result<Content> {
    let mut head = vec![0; HEAD.min(usize::try_from(length).unwrap_or(HEAD))];
    file.read_exact_at(&mut head, start)?;
    let primary = head.get(ext4::OFFSET as usize..).unwrap_or_default();
    if let Some(superblock) = whole(primary) {
        return Ok(Content::Ext4(superblock));
    }
    if let Some(kind) = signature::recognize(&head) {
        return Ok(Content::Foreign(kind));
    }
    let copies = copies(file, start, length)?;
    Ok(if !copies.is_empty() || ext4::has_magic(primary) {
        Content::Ext4Damaged { copies }
    } else if head.iter().all(|byte| *byte == 0) {
        Content::Empty
    } else {
        Content::Unknown
    })
}

/// The superblock in `bytes`, where its checksum is right.
fn whole(bytes: &[u8]) -> Option<Superblock> {
    Superblock::parse(bytes).filter(|superblock| superblock.is_whole)
}

/// The copies of the superblock that are whole and in their place.
fn copies(file: &File, start: u64, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for (block, block_size) in ext4::copies() {
        let offset = block * block_size;
        if offset + ext4::LENGTH as u64 > length {
            continue;
        }
        let mut bytes = [0; ext4::LENGTH];
        file.read_exact_at(&mut bytes, start + offset)?;
        let copy = whole(&bytes);
        if copy.is_some_and(|copy| copy.group != 0 && copy.block_size == block_size) {
            found.push((block, block_size));
        }
    }
    Ok(found)
}

/// Clears what [`examine`] looks at, so that it finds it empty, and waits until
/// that is on the disk.
///
/// # Errors
/// It could not be written.
pub fn clear(file: &File, start: u64, length: u64) -> io::Result<()> {
    let head = HEAD.min(usize::try_from(length).unwrap_or(HEAD));
    file.write_all_at(&vec![0; head], start)?;
    for (block, block_size) in ext4::copies() {
        let offset = block * block_size;
        if offset + ext4::LENGTH as u64 <= length {
            file.write_all_at(&[0; ext4::LENGTH], start + offset)?;
        }
    }
    file.sync_data()
}
