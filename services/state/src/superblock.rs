//! Recognises an ext4 superblock
//! (the kernel's Documentation/filesystems/ext4/super.rst).

use crc::{CRC_32_ISCSI, Crc};

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Bytes of a superblock.
pub const LENGTH: usize = 1024;
/// The primary superblock lies this many bytes behind the start.
pub const OFFSET: u64 = 1024;

const MAGIC: u16 = 0xef53;
/// `s_state`: cleanly unmounted, and so kept while a journal is in use.
const VALID: u16 = 1;
/// `s_state`: an error was found.
const ERRORS: u16 = 2;
/// `s_feature_incompat`: `s_blocks_count_hi` counts.
const INCOMPAT_64BIT: u32 = 0x80;
/// `s_feature_ro_compat`: `s_checksum` counts.
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
/// Where `s_checksum` lies: it covers all before it.
const CHECKSUM: usize = 0x3fc;

/// What is needed of a superblock to decide what to do with the file system.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Superblock {
    /// Bytes of a block.
    pub block_size: u64,
    /// The size of the file system in blocks.
    pub blocks: u64,
    /// The block group that this copy belongs to; 0 is the primary.
    pub group: u16,
    /// Nothing is known against the file system.
    pub sound: bool,
    /// The file system's name.
    pub label: String,
}

impl Superblock {
    /// The superblock in `bytes`; `None` where there is none, or where its
    /// checksum is wrong.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < LENGTH || !looks_like_one(bytes) {
            return None;
        }
        // The kernel's crc32c has no final inversion.
        if u32_at(bytes, 0x64) & RO_COMPAT_METADATA_CSUM != 0
            && !CRC32C.checksum(&bytes[..CHECKSUM]) != u32_at(bytes, CHECKSUM)
        {
            return None;
        }
        let log_block_size = u32_at(bytes, 0x18);
        let high = if u32_at(bytes, 0x60) & INCOMPAT_64BIT != 0 {
            u32_at(bytes, 0x150)
        } else {
            0
        };
        let blocks = u64::from(high) << 32 | u64::from(u32_at(bytes, 0x04));
        // 64 KiB is the largest block that ext4 knows.
        if log_block_size > 6 || blocks == 0 {
            return None;
        }
        let state = u16_at(bytes, 0x3a);
        Some(Self {
            block_size: 1024 << log_block_size,
            blocks,
            group: u16_at(bytes, 0x5a),
            sound: state & VALID != 0 && state & ERRORS == 0,
            label: String::from_utf8_lossy(&bytes[0x78..0x88])
                .trim_end_matches('\0')
                .to_owned(),
        })
    }

    /// Bytes of the file system.
    pub fn size(&self) -> u64 {
        self.blocks.saturating_mul(self.block_size)
    }
}

/// Whether `bytes` have a superblock's magic number, whatever the rest.
pub fn looks_like_one(bytes: &[u8]) -> bool {
    bytes.len() >= LENGTH && u16_at(bytes, 0x38) == MAGIC
}

/// Where copies of the superblock lie, as (block, block size), in the order in
/// which they are worth trying: in the groups 1, 3, 5, 7 and 9 of file systems
/// whose groups have the usual number of blocks, eight times the block size.
pub fn copies() -> impl Iterator<Item = (u64, u64)> {
    const GROUPS: [u64; 5] = [1, 3, 5, 7, 9];
    [4096_u64, 1024, 2048].into_iter().flat_map(|block_size| {
        // With blocks of 1 KiB the first block is the boot sector's.
        let first = u64::from(block_size == 1024);
        GROUPS
            .into_iter()
            .map(move |group| (group * block_size * 8 + first, block_size))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}
