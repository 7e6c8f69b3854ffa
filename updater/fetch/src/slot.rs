//! Fills a slot: what is on this machine is used, the rest is fetched.
//!
//! In this order, each step leaving a state from which the next run goes on:
//!
//! 1. What the root is to have: the block index, or the tree of a local slot with
//!    the same root hash.
//! 2. What is where: the hash trees of the seeds and of the slot itself say it
//!    without reading the data. The data of a slot that was interrupted is hashed;
//!    it has a mark instead of a tree. A slot with neither has nothing to look for.
//! 3. The slot's tree gets that mark in its superblock's place: from here on it
//!    says nothing.
//! 4. Blocks of the slot that belong elsewhere in it are moved, those of the seeds
//!    copied. Each is hashed as it is: a seed may be damaged.
//! 5. The others are fetched, hashed as they come, and written.
//! 6. The tree is made from the hashes; its root hash has to be the release's. Then
//!    the superblock is written last.

use std::cell::RefCell;
use std::io;

use release::{BLOCK, BlockHasher, BlockIndex, Manifest, RootHash, TreeBuilder, VerityParameters};

use crate::download::{Prove, Refused};
use crate::local::{SEEDS, local_index};
use crate::repository::{Progress, Slot};
use crate::wanted::Wanted;
use crate::{FetchError, Fetched, Repository};

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
    exact: Option<Vec<[u8; 32]>>,
    pub(crate) progress: Progress,
}

impl Repository {
    /// Makes `target` the root of `manifest` and its hash tree: what it or `seeds`
    /// have is used, the rest fetched. What was interrupted goes on where it was.
    /// `target` is none of the seeds.
    ///
    /// # Errors
    /// The release does not fit, the slot cannot be read or written, or no mirror
    /// gave what is missing. What was right so far is kept and used next time.
    pub async fn fill_slot(
        &self,
        manifest: &Manifest,
        target: Slot<'_>,
        seeds: &[Slot<'_>],
        progress: &dyn Fn(Progress),
    ) -> Result<Fetched, FetchError> {
        let verity = &manifest.verity;
        fits("root", target.data.length(), verity.data_length())?;
        fits("hash tree", target.tree.length(), verity.tree_length())?;
        let before = self.count();
        let index = match local_index(manifest, target, seeds) {
            Some(index) => index,
            None => {
                let file = self.whole(&manifest.root_index).await?;
                BlockIndex::parse(&file, verity.data_blocks).map_err(|error| {
                    FetchError::Release {
                        path: manifest.root_index.path.clone(),
                        why: error.to_string(),
                    }
                })?
            }
        };
        let filling = Filling {
            target,
            seeds: &seeds[..seeds.len().min(SEEDS)],
            hasher: BlockHasher::new(verity),
            state: RefCell::new(State {
                wanted: Wanted::new(index),
                exact: None,
                progress: Progress {
                    total: verity.data_length(),
                    ..Progress::default()
                },
            }),
            progress,
        };
        filling.use_what_is_here(manifest).await?;
        self.fetch_missing(manifest, &filling).await?;
        let mut root_hash = filling.write_tree(verity, &manifest.root_hash)?;
        if root_hash != manifest.root_hash {
            self.fetch_tree(manifest, &filling).await?;
            self.fetch_missing(manifest, &filling).await?;
            root_hash = filling.write_tree(verity, &manifest.root_hash)?;
        }
        if root_hash != manifest.root_hash {
            return Err(FetchError::Release {
                path: manifest.tree.path.clone(),
                why: format!("the root it describes has the root hash {root_hash}"),
            });
        }
        let reused = filling.state.borrow().progress.reused;
        Ok(self.used(before, reused))
    }

    async fn fetch_missing(
        &self,
        manifest: &Manifest,
        filling: &Filling<'_>,
    ) -> Result<(), FetchError> {
        let missing = filling.state.borrow().missing();
        // Small enough that all connections have work until the end, large enough
        // that the requests' own cost does not count.
        let blocks: u64 = missing
            .iter()
            .map(|run| u64::from(run.end - run.start))
            .sum();
        let longest =
            (blocks / (4 * self.settings.connections.max(1) as u64)).clamp(64, 2048) as u32;
        let parts = missing.into_iter().flat_map(|run| {
            let end = run.end;
            run.step_by(longest as usize)
                .map(move |start| offset(start)..offset(end.min(start.saturating_add(longest))))
        });
        self.parts(&manifest.root, parts, filling).await?;
        filling.flush()
    }

    /// Short hashes were not enough: with the whole tree, the blocks that are not
    /// what they should be are known.
    async fn fetch_tree(
        &self,
        manifest: &Manifest,
        filling: &Filling<'_>,
    ) -> Result<(), FetchError> {
        let tree = self.whole(&manifest.tree).await?;
        let begin = manifest.verity.leaf_offset(0) as usize;
        let end = manifest.verity.leaf_offset(manifest.verity.data_blocks) as usize;
        let (leaves, _) = tree.get(begin..end).unwrap_or_default().as_chunks();
        let mut state = filling.state.borrow_mut();
        let state = &mut *state;
        if leaves.len() != state.wanted.blocks() as usize {
            // With one block there is no tree; its hash is the root hash.
            state.exact = Some(vec![manifest.root_hash.0]);
        } else {
            state.exact = Some(leaves.to_vec());
        }
        let exact = state.exact.as_deref().unwrap_or_default();
        for (block, leaf) in (0..).zip(exact) {
            if state.wanted.leaves().get(block as usize) != Some(leaf) {
                state.wanted.take_back(block);
            }
        }
        Ok(())
    }
}

fn fits(what: &'static str, has: u64, needs: u64) -> Result<(), FetchError> {
    if needs <= has {
        return Ok(());
    }
    Err(FetchError::Space { what, has, needs })
}

pub(crate) fn offset(block: u32) -> u64 {
    u64::from(block) * BLOCK
}

impl Filling<'_> {
    pub(crate) fn failed(&self, doing: &'static str) -> impl Fn(io::Error) -> FetchError {
        move |source| FetchError::Device { doing, source }
    }

    fn flush(&self) -> Result<(), FetchError> {
        self.target
            .data
            .flush()
            .map_err(self.failed("writing the slot's root to the disk"))
    }

    /// Step 6. Gives the root hash that came out; only the right one's tree gets
    /// its superblock.
    fn write_tree(
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
    fn missing(&self) -> Vec<std::ops::Range<u32>> {
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
