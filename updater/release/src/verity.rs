//! dm-verity's hash tree, in the format of veritysetup's version 1.

use serde::{Deserialize, Serialize};

/// Bytes of a block, of data and of hashes.
pub const BLOCK: u64 = 4096;

/// What a hash tree hangs on besides the data. The algorithm is SHA-256, blocks
/// of data and of hashes are 4096 bytes, the tree begins after the superblock's
/// block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerityParameters {
    /// Hashed before each block; hexadecimal.
    pub salt: String,
    /// The superblock's UUID: 32 hexadecimal digits.
    pub uuid: String,
    /// Blocks of data.
    pub data_blocks: u64,
}
