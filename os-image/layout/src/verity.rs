//! dm-verity's parameters, in the superblock of veritysetup's version 1.

use serde::{Deserialize, Serialize};

use crate::hexadecimal;

/// Bytes of a block, of data and of hashes.
pub const BLOCK: u64 = 4096;

/// The longest root file system in bytes. (Whether it fits a slot is the
/// machine's business.)
pub const MAX_ROOT: u64 = 4 << 30;

/// Hashes in a block.
const FANOUT: u64 = BLOCK / 32;

/// What the superblock has room for.
const MAX_SALT: usize = 256;

/// What a hash tree hangs on besides the data. The algorithm is SHA-256, blocks
/// of data and of hashes are 4096 bytes, the tree begins after the superblock's
/// block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerityParameters {
    /// Hashed before each block, at most 256 bytes.
    #[serde(with = "hexadecimal")]
    pub salt: Vec<u8>,
    /// The superblock's UUID, in the order of its text.
    #[serde(with = "hexadecimal")]
    pub uuid: [u8; 16],
    /// Blocks of data.
    pub data_blocks: u64,
}

/// A superblock or parameters that are not those of a release.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the hash tree's {field} is {found}, and has to be {expected}")]
pub struct VerityError {
    field: &'static str,
    found: String,
    expected: String,
}

impl VerityParameters {
    /// Reads the superblock at a hash tree's begin.
    ///
    /// # Errors
    /// It is none, or one with other algorithms or sizes of blocks.
    pub fn parse(superblock: &[u8]) -> Result<Self, VerityError> {
        let number = |at: usize, length: usize| {
            superblock.get(at..at + length).map_or(0, |bytes| {
                bytes
                    .iter()
                    .rev()
                    .fold(0, |number, byte| number << 8 | u64::from(*byte))
            })
        };
        let is = |field, found: String, expected: &str| {
            if found == expected {
                Ok(())
            } else {
                Err(VerityError {
                    field,
                    found,
                    expected: expected.to_owned(),
                })
            }
        };
        let text = |at: usize, length: usize| {
            let bytes = superblock.get(at..at + length).unwrap_or_default();
            let end = bytes.iter().position(|byte| *byte == 0);
            bytes[..end.unwrap_or(bytes.len())]
                .escape_ascii()
                .to_string()
        };
        is("signature", text(0, 8), "verity")?;
        is("format", number(8, 4).to_string(), "1")?;
        is("type", number(12, 4).to_string(), "1")?;
        is("algorithm", text(32, 32), "sha256")?;
        is("size of data blocks", number(64, 4).to_string(), "4096")?;
        is("size of hash blocks", number(68, 4).to_string(), "4096")?;
        let salt_length = usize::try_from(number(80, 2)).unwrap_or(usize::MAX);
        let salt = (salt_length <= MAX_SALT)
            .then(|| superblock.get(88..88 + salt_length))
            .flatten();
        let (Some(salt), Some(uuid)) = (
            salt,
            superblock.get(16..32).and_then(|uuid| uuid.try_into().ok()),
        ) else {
            return Err(VerityError {
                field: "salt",
                found: format!("{salt_length} bytes"),
                expected: format!("at most {MAX_SALT} bytes within the superblock"),
            });
        };
        let parameters = Self {
            salt: salt.to_owned(),
            uuid,
            data_blocks: number(72, 8),
        };
        parameters.check()?;
        Ok(parameters)
    }

    /// The superblock's whole block.
    pub fn superblock(&self) -> [u8; BLOCK as usize] {
        let mut block = [0; BLOCK as usize];
        let mut put = |at: usize, bytes: &[u8]| {
            let length = bytes.len().min(block.len() - at);
            block[at..at + length].copy_from_slice(&bytes[..length]);
        };
        put(0, b"verity\0\0");
        put(8, &1u32.to_le_bytes());
        put(12, &1u32.to_le_bytes());
        put(16, &self.uuid);
        put(32, b"sha256");
        put(64, &(BLOCK as u32).to_le_bytes());
        put(68, &(BLOCK as u32).to_le_bytes());
        put(72, &self.data_blocks.to_le_bytes());
        let salt = &self.salt[..self.salt.len().min(MAX_SALT)];
        put(80, &(salt.len() as u16).to_le_bytes());
        put(88, salt);
        block
    }

    /// Whether they are those of a root that could be.
    ///
    /// # Errors
    /// What is out of bounds.
    pub fn check(&self) -> Result<(), VerityError> {
        if self.data_blocks == 0 || self.data_blocks > MAX_ROOT / BLOCK {
            return Err(VerityError {
                field: "number of data blocks",
                found: self.data_blocks.to_string(),
                expected: format!("1 to {}", MAX_ROOT / BLOCK),
            });
        }
        if self.salt.len() > MAX_SALT {
            return Err(VerityError {
                field: "salt",
                found: format!("{} bytes", self.salt.len()),
                expected: format!("at most {MAX_SALT} bytes"),
            });
        }
        Ok(())
    }

    /// The data's length in bytes.
    pub fn data_length(&self) -> u64 {
        self.data_blocks.saturating_mul(BLOCK)
    }

    /// The whole hash tree's length in bytes, the superblock's block included.
    pub fn tree_length(&self) -> u64 {
        let blocks: u64 = self.levels().iter().map(|level| level.blocks).sum();
        (1 + blocks).saturating_mul(BLOCK)
    }

    /// Where in the hash tree the hash of the data block `number` is, in bytes;
    /// the hashes of the data blocks follow each other without a gap. With one
    /// block there is no tree: its hash is the root hash.
    pub fn leaf_offset(&self, number: u64) -> u64 {
        let leaves = self.levels().first().map_or(1, |level| level.start);
        leaves * BLOCK + number * 32
    }

    /// The tree's levels, that of the data blocks' hashes first.
    pub fn levels(&self) -> Vec<Level> {
        let mut sizes = Vec::new();
        let mut hashes = self.data_blocks;
        while hashes > 1 {
            hashes = hashes.div_ceil(FANOUT);
            sizes.push(hashes);
        }
        let mut start = 1;
        let mut levels: Vec<Level> = sizes
            .into_iter()
            .rev()
            .map(|blocks| {
                start += blocks;
                Level {
                    start: start - blocks,
                    blocks,
                }
            })
            .collect();
        levels.reverse();
        levels
    }
}

/// A level of a hash tree, in blocks of the hash tree's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its first block.
    pub start: u64,
    /// How many blocks it has.
    pub blocks: u64,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parameters() -> impl Strategy<Value = VerityParameters> {
        (
            prop::collection::vec(any::<u8>(), 0..=MAX_SALT),
            any::<[u8; 16]>(),
            1..=MAX_ROOT / BLOCK,
        )
            .prop_map(|(salt, uuid, data_blocks)| VerityParameters {
                salt,
                uuid,
                data_blocks,
            })
    }

    #[test]
    fn a_root_longer_than_any_or_with_too_much_salt_is_refused() {
        let parameters = |salt: usize, data_blocks| VerityParameters {
            salt: vec![0; salt],
            uuid: [0; 16],
            data_blocks,
        };
        assert_eq!(parameters(256, MAX_ROOT / BLOCK).check(), Ok(()));
        for wrong in [
            parameters(257, 1),
            parameters(0, 0),
            parameters(0, MAX_ROOT / BLOCK + 1),
            parameters(0, u64::MAX),
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }

    proptest! {
        #[test]
        fn a_superblock_is_read_as_it_is_written(parameters in parameters()) {
            prop_assert_eq!(VerityParameters::parse(&parameters.superblock()), Ok(parameters));
        }

        #[test]
        fn the_levels_fill_the_tree_without_a_gap(parameters in parameters()) {
            let mut end = parameters.tree_length() / BLOCK;
            for level in parameters.levels() {
                prop_assert_eq!(level.start + level.blocks, end);
                end = level.start;
            }
            prop_assert_eq!(end, 1);
        }

        #[test]
        fn no_superblock_makes_the_reader_panic(
            parameters in parameters(),
            damage in prop::collection::vec((0..512_usize, any::<u8>()), 0..4),
            length in 0..600_usize,
        ) {
            let mut bytes = parameters.superblock();
            for (at, byte) in damage {
                bytes[at] = byte;
            }
            let _ = VerityParameters::parse(&bytes[..length]);
            if let Ok(found) = VerityParameters::parse(&bytes) {
                prop_assert_eq!(found.check(), Ok(()));
                prop_assert!(found.tree_length() <= MAX_ROOT);
            }
        }
    }
}
