//! Builds a hash tree, byte for byte the one of veritysetup and systemd-repart.
//!
//! The file begins with the superblock's block; the levels follow, the top one
//! first, that of the data blocks' hashes last. A block has 128 hashes and is
//! filled up with zeros; the hash of the top level's only block is the root hash.

use std::convert::Infallible;

use layout::RootHash;
use layout::verity::{BLOCK, Level, VerityError, VerityParameters};
use sha2::{Digest, Sha256};

const BYTES: usize = BLOCK as usize;

/// Hashes blocks as dm-verity does: SHA-256 of the salt and the block.
#[derive(Clone, Debug)]
pub struct BlockHasher(Sha256);

impl BlockHasher {
    /// For the blocks of a tree with these parameters.
    pub fn new(parameters: &VerityParameters) -> Self {
        Self(Sha256::new_with_prefix(&parameters.salt))
    }

    /// Hashes one block.
    pub fn hash(&self, block: &[u8]) -> [u8; 32] {
        let mut hash = self.0.clone();
        hash.update(block);
        hash.finalize().into()
    }
}

/// Takes a block of the tree and its place in the tree's file, in bytes.
pub type Sink<'a, E> = dyn FnMut(u64, &[u8; BYTES]) -> Result<(), E> + 'a;

/// Takes the hashes of the data blocks in order and gives each block of the tree
/// as soon as it is full. It needs one block of memory a level.
#[derive(Debug)]
pub struct TreeBuilder {
    hasher: BlockHasher,
    superblock: Box<[u8; BYTES]>,
    levels: Vec<Open>,
    /// The top hash.
    root: [u8; 32],
    /// Data blocks that are still to come.
    missing: u64,
}

/// The block of a level that is being filled.
#[derive(Debug)]
struct Open {
    level: Level,
    /// Blocks that are full.
    done: u64,
    block: Box<[u8; BYTES]>,
    /// Bytes of the block.
    used: usize,
}

impl TreeBuilder {
    /// Begins a tree.
    ///
    /// # Errors
    /// The parameters are not those of a possible root.
    pub fn new(parameters: &VerityParameters) -> Result<Self, VerityError> {
        parameters.check()?;
        let open = |level: Level| Open {
            level,
            done: 0,
            block: Box::new([0; BYTES]),
            used: 0,
        };
        Ok(Self {
            hasher: BlockHasher::new(parameters),
            superblock: Box::new(parameters.superblock()),
            levels: parameters.levels().into_iter().map(open).collect(),
            root: [0; 32],
            missing: parameters.data_blocks,
        })
    }

    /// Takes the next data block's hash. `sink` gets each block of the tree that
    /// is complete, with its place in the tree's file.
    ///
    /// # Errors
    /// Those of `sink`.
    ///
    /// # Panics
    /// There are more hashes than data blocks.
    pub fn push<E>(&mut self, leaf: [u8; 32], sink: &mut Sink<'_, E>) -> Result<(), E> {
        assert!(self.missing > 0, "more hashes than data blocks");
        self.missing -= 1;
        let mut hash = leaf;
        for open in &mut self.levels {
            open.block[open.used..open.used + 32].copy_from_slice(&hash);
            open.used += 32;
            if open.used < BYTES {
                return Ok(());
            }
            hash = open.finish(&self.hasher, sink)?;
        }
        self.root = hash;
        Ok(())
    }

    /// Finishes the tree: `sink` gets the rest, the superblock last.
    ///
    /// # Errors
    /// Those of `sink`.
    ///
    /// # Panics
    /// There were fewer hashes than data blocks.
    pub fn finish<E>(mut self, sink: &mut Sink<'_, E>) -> Result<RootHash, E> {
        assert!(self.missing == 0, "fewer hashes than data blocks");
        // The hash of the level below, where that one had an open block.
        let mut below: Option<[u8; 32]> = None;
        for open in &mut self.levels {
            if let Some(hash) = below.take() {
                open.block[open.used..open.used + 32].copy_from_slice(&hash);
                open.used += 32;
            }
            if open.used > 0 {
                below = Some(open.finish(&self.hasher, sink)?);
            }
        }
        sink(0, &self.superblock)?;
        Ok(RootHash(below.unwrap_or(self.root)))
    }
}

impl Open {
    /// Gives the block away and begins the next one; returns its hash.
    fn finish<E>(&mut self, hasher: &BlockHasher, sink: &mut Sink<'_, E>) -> Result<[u8; 32], E> {
        sink((self.level.start + self.done) * BLOCK, &self.block)?;
        let hash = hasher.hash(self.block.as_slice());
        self.block.fill(0);
        self.used = 0;
        self.done += 1;
        Ok(hash)
    }
}

/// The whole tree of these hashes, in memory.
///
/// # Errors
/// The parameters are not those of a possible root.
///
/// # Panics
/// There are not as many hashes as data blocks.
pub fn tree(
    parameters: &VerityParameters,
    leaves: impl IntoIterator<Item = [u8; 32]>,
) -> Result<(Vec<u8>, RootHash), VerityError> {
    let mut builder = TreeBuilder::new(parameters)?;
    // At most a 127th of MAX_ROOT.
    let mut tree = vec![0; parameters.tree_length() as usize];
    let mut sink = |offset: u64, block: &[u8; BYTES]| {
        let at = offset as usize;
        tree[at..at + BYTES].copy_from_slice(block);
        Ok::<(), Infallible>(())
    };
    for leaf in leaves {
        let Ok(()) = builder.push(leaf, &mut sink);
    }
    let Ok(root_hash) = builder.finish(&mut sink);
    Ok((tree, root_hash))
}
