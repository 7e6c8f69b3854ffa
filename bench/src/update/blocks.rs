//! What an update has to fetch at least, when blocks of 4 KiB are what counts.

use anyhow::{Context, Result};
use machine::Build;
use sha2::{Digest, Sha256};
use std::collections::HashSet;
use std::fs;
use std::path::Path;

/// dm-verity's, flash's and the page cache's.
const BLOCK: usize = 4096;

/// Bytes of a release and of an update to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// Root, hash tree and unified kernel image.
    pub full: u64,
    /// The root's and the kernel image's blocks that are nowhere in the old
    /// ones, and the hash tree.
    pub ideal: u64,
    /// RAUC's adaptive update (method `block-hash-index`): the index, 32 bytes
    /// for each block, and the blocks that are nowhere in the old images.
    /// Bundle and manifest are left out.
    pub rauc_adaptive: u64,
}

/// Compares two releases.
pub fn compare(old: &Build, new: &Build) -> Result<Sizes> {
    let root = Compared::read(&old.root()?, &new.root()?)?;
    let uki = Compared::read(&old.uki()?, &new.uki()?)?;
    let tree = fs::metadata(new.hash_tree()?)?.len();
    let missing = root.missing + uki.missing;
    Ok(Sizes {
        full: root.length + uki.length + tree,
        ideal: missing + tree,
        rauc_adaptive: missing + 32 * (root.blocks + uki.blocks),
    })
}

struct Compared {
    length: u64,
    blocks: u64,
    missing: u64,
}

impl Compared {
    fn read(old: &Path, new: &Path) -> Result<Self> {
        let read = |path: &Path| fs::read(path).with_context(|| format!("read {}", path.display()));
        Ok(Self::of(&read(old)?, &read(new)?))
    }

    fn of(old: &[u8], new: &[u8]) -> Self {
        let hash = |block: &[u8]| <[u8; 32]>::from(Sha256::digest(block));
        let mut known: HashSet<[u8; 32]> = old.chunks(BLOCK).map(hash).collect();
        let mut compared = Self {
            length: new.len() as u64,
            blocks: 0,
            missing: 0,
        };
        for block in new.chunks(BLOCK) {
            compared.blocks += 1;
            // What was fetched once is not fetched again.
            if known.insert(hash(block)) {
                compared.missing += block.len() as u64;
            }
        }
        compared
    }
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Compared};

    #[test]
    fn a_block_that_moved_or_comes_twice_is_not_missing_again() {
        let block = |byte: u8| vec![byte; BLOCK];
        let old = [block(1), block(2)].concat();
        let new = [block(2), block(3), block(3), vec![4; 100]].concat();
        let compared = Compared::of(&old, &new);
        assert_eq!(compared.blocks, 4);
        assert_eq!(compared.missing, BLOCK as u64 + 100);
        assert_eq!(compared.length, 3 * BLOCK as u64 + 100);
    }
}
