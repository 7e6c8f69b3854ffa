//! Which blocks a root has, in eight bytes each.
//!
//! The first eight bytes of each block's hash are enough to find it among the
//! blocks that are already here; in the end the root hash shows whether each was
//! the right one.
//!
//! ```text
//! 0   8  "WHERRYIX"
//! 8   4  1, the format's number; little-endian like all numbers
//! 12  4  8, bytes of a hash
//! 16     for each block of the root, in order: the first 8 bytes of its hash in
//!        the hash tree
//! ```

use crate::VerityParameters;

/// Bytes of a hash in an index.
pub const SHORT: usize = 8;

/// The begin of a hash.
pub type Short = [u8; SHORT];

const MAGIC: &[u8; 8] = b"WHERRYIX";

/// Bytes before the first hash.
const HEADER: usize = 16;

/// The begin of a hash.
pub fn short(hash: &[u8; 32]) -> Short {
    let mut short = [0; SHORT];
    short.copy_from_slice(&hash[..SHORT]);
    short
}

/// An index that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum IndexError {
    /// It does not begin as one, or has another format.
    #[error("the index {0}")]
    Header(&'static str),
    /// It has another length than it has to have.
    #[error("the index has {found} bytes instead of {expected}")]
    Length {
        /// Bytes that are there.
        found: u64,
        /// Bytes that should be there.
        expected: u64,
    },
    /// Its sections are not ascending within the file.
    #[error("the index has sections that do not ascend")]
    Sections,
}

/// Checks what both kinds of index begin with.
pub(crate) fn check_header(file: &[u8], magic: &[u8; 8]) -> Result<(), IndexError> {
    match (file.get(..8), file.get(8..12), file.get(12..16)) {
        (Some(begin), _, _) if begin != magic => {
            Err(IndexError::Header("does not begin as one of this kind"))
        }
        (_, Some([1, 0, 0, 0]), Some([8, 0, 0, 0])) => Ok(()),
        (_, Some(_), Some(_)) => Err(IndexError::Header(
            "has another format than 1 with hashes of 8 bytes",
        )),
        _ => Err(IndexError::Header("is cut off")),
    }
}

/// What both kinds of index begin with.
pub(crate) fn header(magic: &[u8; 8]) -> Vec<u8> {
    let mut file = magic.to_vec();
    file.extend(1u32.to_le_bytes());
    file.extend((SHORT as u32).to_le_bytes());
    file
}

/// The index of a root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockIndex {
    hashes: Vec<Short>,
}

impl BlockIndex {
    /// How long an index's file is.
    pub fn length(blocks: u64) -> u64 {
        blocks
            .saturating_mul(SHORT as u64)
            .saturating_add(HEADER as u64)
    }

    /// Reads an index.
    ///
    /// # Errors
    /// It is not an index, or not of so many blocks.
    pub fn parse(file: &[u8], blocks: u64) -> Result<Self, IndexError> {
        check_header(file, MAGIC)?;
        if file.len() as u64 != Self::length(blocks) {
            return Err(IndexError::Length {
                found: file.len() as u64,
                expected: Self::length(blocks),
            });
        }
        let (hashes, _) = file[HEADER..].as_chunks();
        Ok(Self {
            hashes: hashes.to_vec(),
        })
    }

    /// The index of a root with this hash tree; `None` where the tree is shorter
    /// than such a tree is.
    pub fn of_tree(parameters: &VerityParameters, tree: &[u8]) -> Option<Self> {
        let begin = usize::try_from(parameters.leaf_offset(0)).ok()?;
        let end = usize::try_from(parameters.leaf_offset(parameters.data_blocks)).ok()?;
        let (leaves, _) = tree.get(begin..end)?.as_chunks();
        Some(leaves.iter().map(short).collect())
    }

    /// The file.
    pub fn encode(&self) -> Vec<u8> {
        let mut file = header(MAGIC);
        file.extend(self.hashes.as_flattened());
        file
    }

    /// Blocks of the root.
    pub fn blocks(&self) -> u64 {
        self.hashes.len() as u64
    }

    /// The begin of a block's hash.
    ///
    /// # Panics
    /// The root has not so many blocks.
    pub fn hash(&self, block: u64) -> Short {
        self.hashes[block as usize]
    }

    /// The begins of all hashes, in order.
    pub fn hashes(&self) -> &[Short] {
        &self.hashes
    }
}

impl FromIterator<Short> for BlockIndex {
    fn from_iter<T: IntoIterator<Item = Short>>(hashes: T) -> Self {
        Self {
            hashes: hashes.into_iter().collect(),
        }
    }
}
