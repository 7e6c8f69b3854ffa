//! What an ext4 superblock says about its file system
//! (the kernel's Documentation/filesystems/ext4/super.rst).

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::Error;

/// The superblock lies this many bytes behind the start of the device.
const OFFSET: u64 = 1024;
const LENGTH: usize = 1024;

const MAGIC: u16 = 0xef53;
/// `s_state`: cleanly unmounted. A file system with a journal keeps the flag
/// while it is mounted; e2fsck takes it away while it repairs.
const VALID: u16 = 1;
/// `s_state`: the kernel has found an error.
const ERRORS: u16 = 2;
/// `s_feature_incompat`: `s_blocks_count_hi` counts.
const INCOMPAT_64BIT: u32 = 0x80;

/// Whether the file system may be mounted as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// Nothing is known against it; its journal may have to be replayed.
    Sound,
    /// An error was found in it, or a repair was interrupted.
    NeedsCheck,
}

/// The part of a superblock that is needed to decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Superblock {
    state: u16,
    /// Bytes of a block.
    pub block_size: u64,
    /// The size of the file system in blocks.
    pub blocks: u64,
}

impl Superblock {
    /// Reads it from a device; `None` where there is no ext4.
    pub fn read(device: &Path) -> Result<Option<Self>, Error> {
        let mut bytes = [0; LENGTH];
        match File::open(device).and_then(|file| file.read_exact_at(&mut bytes, OFFSET)) {
            Ok(()) => Ok(Self::parse(&bytes)),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
            Err(source) => Err(Error::Path {
                doing: "read the superblock of",
                path: device.to_owned(),
                source,
            }),
        }
    }

    fn parse(bytes: &[u8; LENGTH]) -> Option<Self> {
        if u16_at(bytes, 0x38) != MAGIC {
            return None;
        }
        let log_block_size = u32_at(bytes, 0x18);
        // 64 KiB is the largest block that ext4 knows.
        if log_block_size > 6 {
            return None;
        }
        let high = if u32_at(bytes, 0x60) & INCOMPAT_64BIT != 0 {
            u32_at(bytes, 0x150)
        } else {
            0
        };
        Some(Self {
            state: u16_at(bytes, 0x3a),
            block_size: 1024 << log_block_size,
            blocks: u64::from(high) << 32 | u64::from(u32_at(bytes, 0x04)),
        })
    }

    /// What its state flags say.
    pub fn condition(&self) -> Condition {
        if self.state & VALID != 0 && self.state & ERRORS == 0 {
            Condition::Sound
        } else {
            Condition::NeedsCheck
        }
    }
}

fn u16_at(bytes: &[u8; LENGTH], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8; LENGTH], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

#[cfg(test)]
mod tests {
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
        let condition = |state| Superblock::parse(&superblock(state)).map(|s| s.condition());
        assert_eq!(condition(VALID), Some(Condition::Sound));
        assert_eq!(condition(VALID | ERRORS), Some(Condition::NeedsCheck));
        assert_eq!(condition(0), Some(Condition::NeedsCheck));
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
    fn what_is_not_ext4_has_no_superblock() {
        assert_eq!(Superblock::parse(&[0; LENGTH]), None);
        let mut bytes = superblock(VALID);
        bytes[0x18] = 200;
        assert_eq!(Superblock::parse(&bytes), None);
    }
}
