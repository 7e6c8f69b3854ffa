//! Fills a slot: what is on this machine is used, the rest is fetched.
//!
//! In this order; after each step the next run can continue:
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

use release::{BlockHasher, BlockIndex, Manifest};

use crate::filling::{Filling, State, offset};
use crate::local::{SEEDS, local_index};
use crate::repository::{Progress, Slot};
use crate::wanted::Wanted;
use crate::{FetchError, Fetched, Repository};

impl Repository {
    /// Makes `target` the root of `manifest` and its hash tree: what it or `seeds`
    /// have is used, the rest fetched. An interrupted run is continued.
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
