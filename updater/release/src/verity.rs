//! dm-verity's parameters, in the superblock of veritysetup's version 1.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::{MAX_ROOT, hexadecimal};

/// Bytes of a block, of data and of hashes.
pub const BLOCK: u64 = 4096;

/// Hashes in a block.
pub(crate) const FANOUT: u64 = BLOCK / 32;

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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerityError {
    field: &'static str,
    found: String,
    expected: String,
}

impl fmt::Display for VerityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            found,
            expected,
        } = self;
        write!(
            f,
            "the hash tree's {field} is {found}, and has to be {expected}"
        )
    }
}

impl std::error::Error for VerityError {}

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

    /// # Errors
    /// They are not those of a root that could be.
    pub(crate) fn check(&self) -> Result<(), VerityError> {
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
    pub(crate) fn levels(&self) -> Vec<Level> {
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

    /// Hashes blocks as dm-verity does.
    pub fn hasher(&self) -> BlockHasher {
        BlockHasher(Sha256::new_with_prefix(&self.salt))
    }
}

/// A level of a hash tree, in blocks of the hash tree's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Level {
    pub start: u64,
    pub blocks: u64,
}

/// The hash of a block: SHA-256 of the salt and the block.
#[derive(Clone, Debug)]
pub struct BlockHasher(Sha256);

impl BlockHasher {
    /// Hashes one block.
    pub fn hash(&self, block: &[u8]) -> [u8; 32] {
        let mut hash = self.0.clone();
        hash.update(block);
        hash.finalize().into()
    }
}
