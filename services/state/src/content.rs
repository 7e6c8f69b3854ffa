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

use crate::superblock::{self, Superblock};

/// This much at the start is looked at, and cleared before a file system is
/// made: all of the marks below lie within.
pub const HEAD: usize = 1 << 20;

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

/// Marks of what may not be written over: (what it is, offset, bytes).
const MARKS: [(&str, usize, &[u8]); 23] = [
    ("XFS", 0, b"XFSB"),
    ("Btrfs", 0x1_0040, b"_BHRfS_M"),
    ("F2FS", 1024, &[0x10, 0x20, 0xf5, 0xf2]),
    ("EROFS", 1024, &[0xe2, 0xe1, 0xf5, 0xe0]),
    ("SquashFS", 0, b"hsqs"),
    ("LUKS", 0, b"LUKS\xba\xbe"),
    ("LVM", 512, b"LABELONE"),
    ("Linux RAID", 0, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("Linux RAID", 4096, &[0xfc, 0x4e, 0x2b, 0xa9]),
    ("dm-verity", 0, b"verity\0\0"),
    ("swap", 4086, b"SWAPSPACE2"),
    ("NTFS", 3, b"NTFS    "),
    ("exFAT", 3, b"EXFAT   "),
    ("FAT", 82, b"FAT32   "),
    ("FAT", 54, b"FAT16   "),
    ("FAT", 54, b"FAT12   "),
    ("JFS", 0x8000, b"JFS1"),
    ("ReiserFS", 0x1_0034, b"ReIsEr"),
    ("NILFS2", 1030, &[0x34, 0x34]),
    ("ISO 9660", 0x8001, b"CD001"),
    ("a GUID partition table", 512, b"EFI PART"),
    (
        "bcachefs",
        4096 + 24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x66, 0xce, 0x90, 0xa9, 0xd9, 0x6a, 0x60, 0xcf, 0x80, 0x3d,
            0xf7, 0xef,
        ],
    ),
    (
        "bcache",
        4096 + 24,
        &[
            0xc6, 0x85, 0x73, 0xf6, 0x4e, 0x1a, 0x45, 0xca, 0x82, 0x65, 0xf5, 0x7f, 0x48, 0xba,
            0x6d, 0x81,
        ],
    ),
];

/// Looks at a partition, or a stretch of a disk, that begins at byte `start` of
/// `file` and has `length` bytes.
///
/// # Errors
/// It could not be read.
pub fn examine(file: &File, start: u64, length: u64) -> io::Result<Content> {
    let mut head = vec![0; HEAD.min(usize::try_from(length).unwrap_or(HEAD))];
    file.read_exact_at(&mut head, start)?;
    let at = superblock::OFFSET as usize;
    let primary = head.get(at..at + superblock::LENGTH).unwrap_or_default();
    if let Some(superblock) = Superblock::parse(primary) {
        return Ok(Content::Ext4(superblock));
    }
    for (kind, offset, mark) in MARKS {
        if head.get(offset..offset + mark.len()) == Some(mark) {
            return Ok(Content::Foreign(kind));
        }
    }
    let copies = copies(file, start, length)?;
    Ok(
        if !copies.is_empty() || superblock::looks_like_one(primary) {
            Content::Ext4Damaged { copies }
        } else if head.iter().all(|byte| *byte == 0) {
            Content::Empty
        } else {
            Content::Unknown
        },
    )
}

/// The copies of the superblock that are whole and in their place.
fn copies(file: &File, start: u64, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    for (block, block_size) in superblock::copies() {
        let offset = block * block_size;
        if offset + superblock::LENGTH as u64 > length {
            continue;
        }
        let mut bytes = [0; superblock::LENGTH];
        file.read_exact_at(&mut bytes, start + offset)?;
        let copy = Superblock::parse(&bytes);
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
    for (block, block_size) in superblock::copies() {
        let offset = block * block_size;
        if offset + superblock::LENGTH as u64 <= length {
            file.write_all_at(&[0; superblock::LENGTH], start + offset)?;
        }
    }
    file.sync_data()
}
