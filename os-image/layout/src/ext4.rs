//! What an ext4 superblock says of its file system (the kernel's
//! Documentation/filesystems/ext4/super.rst).

use crc::{CRC_32_ISCSI, Crc};

const CRC32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// Bytes of a superblock.
pub const LENGTH: usize = 1024;
/// The primary superblock lies this many bytes behind the start of the device.
pub const OFFSET: u64 = 1024;

const MAGIC: u16 = 0xef53;
/// `s_state`: cleanly unmounted. A file system with a journal keeps the flag
/// while it is mounted; e2fsck takes it away while it repairs.
const VALID: u16 = 1;
/// `s_state`: the kernel has found an error.
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
    /// Nothing is known against the file system; its journal may have to be
    /// replayed. Else the kernel found an error, or a repair was interrupted.
    pub is_sound: bool,
    /// Its checksum is right, or it has none. That of a mounted file system can
    /// be wrong for a moment, while the kernel changes it.
    pub is_whole: bool,
    /// The file system's name.
    pub label: String,
}

impl Superblock {
    /// The superblock in the first [`LENGTH`] bytes; `None` where there is none.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (bytes, _) = bytes.split_first_chunk::<LENGTH>()?;
        if u16_at(bytes, 0x38) != MAGIC {
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
        let has_checksum = u32_at(bytes, 0x64) & RO_COMPAT_METADATA_CSUM != 0;
        Some(Self {
            block_size: 1024 << log_block_size,
            blocks,
            group: u16_at(bytes, 0x5a),
            is_sound: state & VALID != 0 && state & ERRORS == 0,
            // The kernel's crc32c has no final inversion.
            is_whole: !has_checksum
                || !CRC32C.checksum(&bytes[..CHECKSUM]) == u32_at(bytes, CHECKSUM),
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

/// Whether the first [`LENGTH`] bytes have a superblock's magic number, whatever
/// the rest.
pub fn has_magic(bytes: &[u8]) -> bool {
    bytes
        .first_chunk::<LENGTH>()
        .is_some_and(|bytes| u16_at(bytes, 0x38) == MAGIC)
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

fn u16_at(bytes: &[u8; LENGTH], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; LENGTH], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn superblock(state: u16) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[0x04..0x08].copy_from_slice(&16384u32.to_le_bytes());
        bytes[0x18..0x1c].copy_from_slice(&2u32.to_le_bytes());
        bytes[0x38..0x3a].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[0x3a..0x3c].copy_from_slice(&state.to_le_bytes());
        bytes
    }

    #[test]
    fn a_file_system_is_sound_until_something_is_known_against_it() {
        let is_sound = |state| Superblock::parse(&superblock(state)).map(|s| s.is_sound);
        assert_eq!(is_sound(VALID), Some(true));
        assert_eq!(is_sound(VALID | ERRORS), Some(false));
        assert_eq!(is_sound(0), Some(false));
    }

    #[test]
    fn the_size_has_its_upper_half_only_with_the_64bit_feature() {
        let mut bytes = superblock(VALID);
        bytes[0x150] = 1;
        let narrow = Superblock::parse(&bytes).unwrap();
        assert_eq!((narrow.block_size, narrow.blocks), (4096, 16384));
        bytes[0x60] = 0x80;
        let wide = Superblock::parse(&bytes).unwrap();
        assert_eq!(wide.blocks, (1 << 32) + 16384);
    }

    #[test]
    fn a_checksum_counts_where_the_file_system_has_one() {
        let mut bytes = superblock(VALID);
        assert!(Superblock::parse(&bytes).unwrap().is_whole);
        bytes[0x65] = 0x04;
        assert!(!Superblock::parse(&bytes).unwrap().is_whole);
        let checksum = !CRC32C.checksum(&bytes[..CHECKSUM]);
        bytes[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
        assert!(Superblock::parse(&bytes).unwrap().is_whole);
        bytes[0x200] ^= 1;
        assert!(!Superblock::parse(&bytes).unwrap().is_whole);
    }

    #[test]
    fn what_is_not_ext4_has_no_superblock() {
        assert_eq!(Superblock::parse(&[0; LENGTH]), None);
        assert!(!has_magic(&[0; LENGTH]));
        let mut bytes = superblock(VALID);
        assert_eq!(Superblock::parse(&bytes[..LENGTH - 1]), None);
        assert!(!has_magic(&bytes[..LENGTH - 1]));
        bytes[0x18] = 200;
        assert_eq!(Superblock::parse(&bytes), None);
        assert!(has_magic(&bytes));
        let mut empty = superblock(VALID);
        empty[0x04..0x08].fill(0);
        assert_eq!(Superblock::parse(&empty), None);
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(
            damage in prop::collection::vec((0..LENGTH, any::<u8>()), 0..64),
            length in 0..=LENGTH,
        ) {
            let mut bytes = superblock(VALID);
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            let _ = Superblock::parse(&bytes[..length]);
            if let Some(superblock) = Superblock::parse(&bytes) {
                prop_assert!(superblock.size() >= superblock.block_size);
            }
        }
    }
}
