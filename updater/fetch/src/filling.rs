//! A slot that is being filled: what it has, what it lacks, and its hash tree.

use std::cell::RefCell;
use std::io;

use release::{BLOCK, BlockHasher, RootHash, TreeBuilder, VerityParameters};

use crate::FetchError;
use crate::download::{Prove, Refused};
use crate::repository::{Progress, Slot};
use crate::wanted::Wanted;

pub(crate) const BYTES: usize = BLOCK as usize;

/// A slot that is being filled.
pub(crate) struct Filling<'a> {
    pub(crate) target: Slot<'a>,
    pub(crate) seeds: &'a [Slot<'a>],
    pub(crate) hasher: BlockHasher,
    pub(crate) state: RefCell<State>,
    pub(crate) progress: &'a dyn Fn(Progress),
}

pub(crate) struct State {
    pub(crate) wanted: Wanted,
    /// The whole hashes, once the short ones have proved not to be enough.
    pub(crate) exact: Option<Vec<[u8; 32]>>,
    pub(crate) progress: Progress,
}

pub(crate) fn offset(block: u32) -> u64 {
    u64::from(block) * BLOCK
}

impl Filling<'_> {
    pub(crate) fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> FetchError {
        move |source| FetchError::Device { doing, source }
    }

    pub(crate) fn flush(&self) -> Result<(), FetchError> {
        self.target
            .data
            .flush()
            .map_err(self.failed("writing the slot's root to the disk"))
    }

    /// Step 6. Gives the root hash that came out; only the right one's tree gets
    /// its superblock.
    pub(crate) fn write_tree(
        &self,
        verity: &VerityParameters,
        expected: &RootHash,
    ) -> Result<RootHash, FetchError> {
        let failed = self.failed("writing the slot's hash tree");
        let broken = |error: &dyn std::fmt::Display| FetchError::Release {
            path: "manifest".to_owned(),
            why: error.to_string(),
        };
        let mut builder = TreeBuilder::new(verity).map_err(|error| broken(&error))?;
        let mut superblock = None;
        let mut sink = |offset: u64, block: &[u8; BYTES]| {
            if offset == 0 {
                superblock = Some(*block);
                return Ok(());
            }
            self.target.tree.write_at(block, offset)
        };
        let state = self.state.borrow();
        for leaf in state.wanted.leaves() {
            builder.push(*leaf, &mut sink).map_err(&failed)?;
        }
        let root_hash = builder.finish(&mut sink).map_err(&failed)?;
        if let Some(superblock) = superblock
            && root_hash == *expected
        {
            let write = || {
                self.target.tree.flush()?;
                self.target.tree.write_at(&superblock, 0)?;
                self.target.tree.flush()
            };
            write().map_err(&failed)?;
        }
        Ok(root_hash)
    }

    pub(crate) fn report(&self) {
        let mut state = self.state.borrow_mut();
        state.progress.verified = state.progress.total - state.wanted.left() * BLOCK;
        (self.progress)(state.progress);
    }
}

impl State {
    pub(crate) fn missing(&self) -> Vec<std::ops::Range<u32>> {
        if self.exact.is_none() {
            return self.wanted.missing();
        }
        // Blocks with equal short hashes may be different ones now.
        let blocks = (0..self.wanted.blocks()).filter(|block| !self.wanted.is_there(*block));
        blocks.map(|block| block..block + 1).collect()
    }

    /// Whether `hash` is that of what belongs at `block`.
    fn fits(&self, block: u32, hash: &[u8; 32]) -> bool {
        match &self.exact {
            Some(exact) => exact.get(block as usize) == Some(hash),
            None => self.wanted.fits(block, hash),
        }
    }

    /// The other blocks that are still to get the same content as `block`.
    fn equal(&self, block: u32) -> Vec<u32> {
        if self.exact.is_some() {
            return Vec::new();
        }
        let members = self.wanted.members(self.wanted.kind_of(block)).iter();
        members
            .filter(|other| **other != block && !self.wanted.is_there(**other))
            .copied()
            .collect()
    }
}

impl Prove for Filling<'_> {
    fn end_of_piece(&self, offset: u64) -> u64 {
        (offset / BLOCK + 1) * BLOCK
    }

    fn take(&self, at: u64, bytes: &[u8]) -> Result<(), Refused> {
        let failed = |source| Refused::Failed(self.failed("writing the slot's root")(source));
        let first = (at / BLOCK) as u32;
        let mut state = self.state.borrow_mut();
        let mut wrong = None;
        let mut hashes = Vec::with_capacity(bytes.len() / BYTES);
        for (block, bytes) in (first..).zip(bytes.chunks_exact(BYTES)) {
            let hash = self.hasher.hash(bytes);
            if !state.fits(block, &hash) {
                wrong = Some(format!("block {block} (byte {}) is wrong", offset(block)));
                break;
            }
            hashes.push(hash);
        }
        let taken = hashes.len() * BYTES;
        self.target
            .data
            .write_at(&bytes[..taken], at)
            .map_err(failed)?;
        for ((block, hash), bytes) in (first..).zip(&hashes).zip(bytes.chunks_exact(BYTES)) {
            state.wanted.put(block, hash);
            state.progress.fetched += BLOCK;
            for other in state.equal(block) {
                let write = self.target.data.write_at(bytes, offset(other));
                write.map_err(failed)?;
                state.wanted.put(other, hash);
                state.progress.reused += BLOCK;
            }
        }
        drop(state);
        self.report();
        wrong.map_or(Ok(()), |what| {
            let taken = taken as u64;
            Err(Refused::Wrong { taken, what })
        })
    }
}
