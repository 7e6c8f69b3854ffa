//! What of a root is on this machine already: looked for in the slots' hash trees,
//! moved within the slot, copied from the seeds.

use std::io;

use block_device::BlockDevice;
use release::{BLOCK, BlockIndex, Manifest, TreeBuilder, VerityParameters, short};

use crate::FetchError;
use crate::filling::{BYTES, Filling, State, offset};
use crate::moves::{Move, Step, order};
use crate::repository::Slot;
use crate::wanted::Wanted;

/// Blocks read and hashed at once.
const RUN: u32 = 64;

/// What the first block of the tree begins with while the slot is being filled; the
/// root hash that it is to have follows.
const MARK: &[u8; 8] = b"WHERRYFL";

/// Seeds that [`Place`] has numbers for.
pub(crate) const SEEDS: usize = (1 << (32 - Place::BLOCK_BITS)) - 2;

/// Where a kind of block is, in four bytes: there are as many of these as the root
/// has blocks. 0 is nowhere, 1 the slot itself, then the seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Place(u32);

impl Place {
    const BLOCK_BITS: u32 = 27;
    const SLOT: u32 = 1;

    fn new(device: u32, block: u32) -> Option<Self> {
        (block >> Self::BLOCK_BITS == 0).then_some(Self(device << Self::BLOCK_BITS | block))
    }

    fn device(self) -> u32 {
        self.0 >> Self::BLOCK_BITS
    }

    fn block(self) -> u32 {
        self.0 & ((1 << Self::BLOCK_BITS) - 1)
    }
}

/// The index of the root, where a local slot has that very root.
pub(crate) fn local_index(
    manifest: &Manifest,
    target: Slot<'_>,
    seeds: &[Slot<'_>],
) -> Option<BlockIndex> {
    seeds.iter().chain([&target]).find_map(|slot| {
        let verity = tree_of(slot)?;
        if (&verity.salt, verity.data_blocks)
            != (&manifest.verity.salt, manifest.verity.data_blocks)
        {
            return None;
        }
        let mut builder = TreeBuilder::new(&verity).ok()?;
        let mut ignore = |_: u64, _: &[u8; BYTES]| Ok::<(), io::Error>(());
        let mut hashes = Vec::with_capacity(verity.data_blocks as usize);
        leaves(slot, &verity, |_, leaf| {
            hashes.push(short(leaf));
            builder.push(*leaf, &mut ignore)
        })
        .ok()?;
        let root_hash = builder.finish(&mut ignore).ok()?;
        (root_hash == manifest.root_hash).then(|| hashes.into_iter().collect())
    })
}

/// What a slot's tree says about it, where it has one.
fn tree_of(slot: &Slot<'_>) -> Option<VerityParameters> {
    let mut superblock = [0; BYTES];
    slot.tree.read_at(&mut superblock, 0).ok()?;
    let verity = VerityParameters::parse(&superblock).ok()?;
    let fits = verity.tree_length() <= slot.tree.length()
        && verity.data_length() <= slot.data.length()
        && verity.data_blocks > 1;
    fits.then_some(verity)
}

/// Whether filling the slot was interrupted.
fn is_marked(slot: &Slot<'_>) -> bool {
    let mut begin = [0; MARK.len()];
    slot.tree.read_at(&mut begin, 0).is_ok() && begin == *MARK
}

/// Goes over the hashes of the data blocks in a slot's tree.
fn leaves(
    slot: &Slot<'_>,
    verity: &VerityParameters,
    mut each: impl FnMut(u32, &[u8; 32]) -> io::Result<()>,
) -> io::Result<()> {
    let mut buffer = vec![0; RUN as usize * BYTES];
    let mut block = 0;
    while u64::from(block) < verity.data_blocks {
        let left = (verity.data_blocks - u64::from(block)) * 32;
        let length = left.min(buffer.len() as u64) as usize;
        slot.tree
            .read_at(&mut buffer[..length], verity.leaf_offset(block.into()))?;
        let (hashes, _) = buffer[..length].as_chunks();
        for hash in hashes {
            each(block, hash)?;
            block += 1;
        }
    }
    Ok(())
}

impl Filling<'_> {
    /// Steps 2 to 4 of filling a slot.
    pub(crate) async fn use_what_is_here(&self, manifest: &Manifest) -> Result<(), FetchError> {
        let verity = &manifest.verity;
        let mut places = vec![Place::default(); self.state.borrow().wanted.blocks() as usize];
        self.look_at_target(verity, &mut places).await;
        for (number, seed) in (Place::SLOT + 1..).zip(self.seeds) {
            self.look_at_seed(seed, number, verity, &mut places).await;
        }
        if self.state.borrow().wanted.left() > 0 {
            let mut mark = [0; BYTES];
            mark[..8].copy_from_slice(MARK);
            mark[8..40].copy_from_slice(&manifest.root_hash.0);
            let write = || {
                self.target.tree.write_at(&mark, 0)?;
                self.target.tree.flush()
            };
            write().map_err(self.failed("writing the slot's hash tree"))?;
        }
        self.settle(&mut places);
        self.move_blocks(&mut places)?;
        self.copy_blocks(&places).await
    }

    /// Which blocks of the slot are in place, and which belong elsewhere.
    async fn look_at_target(&self, verity: &VerityParameters, places: &mut [Place]) {
        let mut likely: Vec<(u32, u32)> = Vec::new();
        let wanted_blocks = self.state.borrow().wanted.blocks();
        match tree_of(&self.target) {
            Some(tree) if tree.salt == verity.salt => {
                // The tree is only a hint here: what it says is in place is read.
                let read = leaves(&self.target, &tree, |block, leaf| {
                    let state = self.state.borrow();
                    if block < wanted_blocks && state.wanted.fits(block, leaf) {
                        match likely.last_mut() {
                            Some((_, end)) if *end == block => *end += 1,
                            _ => likely.push((block, block + 1)),
                        }
                    } else {
                        note(&state.wanted, places, Place::SLOT, block, leaf);
                    }
                    Ok(())
                });
                if read.is_err() {
                    likely = vec![(0, wanted_blocks)];
                }
            }
            Some(_) => likely.push((0, wanted_blocks)),
            None if is_marked(&self.target) => likely.push((0, wanted_blocks)),
            None => {}
        }
        for (begin, end) in likely {
            self.look(self.target.data, begin..end, |state, block, hash| {
                if state.wanted.fits(block, hash) {
                    state.wanted.put(block, hash);
                    state.progress.reused += BLOCK;
                } else {
                    note(&state.wanted, places, Place::SLOT, block, hash);
                }
            })
            .await;
        }
    }

    /// Which blocks a seed has.
    async fn look_at_seed(
        &self,
        seed: &Slot<'_>,
        number: u32,
        verity: &VerityParameters,
        places: &mut [Place],
    ) {
        if let Some(tree) = tree_of(seed).filter(|tree| tree.salt == verity.salt) {
            let read = leaves(seed, &tree, |block, leaf| {
                note(&self.state.borrow().wanted, places, number, block, leaf);
                Ok(())
            });
            if read.is_ok() {
                return;
            }
        }
        let blocks = tree_of(seed).map_or(seed.data.length() / BLOCK, |tree| tree.data_blocks);
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        self.look(seed.data, 0..blocks, |state, block, hash| {
            note(&state.wanted, places, number, block, hash);
        })
        .await;
    }

    /// Reads and hashes blocks. Unreadable ones are skipped, as if they were not
    /// there.
    async fn look(
        &self,
        device: &dyn BlockDevice,
        blocks: std::ops::Range<u32>,
        mut each: impl FnMut(&mut State, u32, &[u8; 32]),
    ) {
        let mut buffer = vec![0; RUN as usize * BYTES];
        let empty = [0; BYTES];
        let empty_hash = self.hasher.hash(&empty);
        let mut begin = blocks.start;
        while begin < blocks.end {
            let end = blocks.end.min(begin.saturating_add(RUN));
            let bytes = &mut buffer[..(end - begin) as usize * BYTES];
            if device.read_at(bytes, offset(begin)).is_ok() {
                let mut state = self.state.borrow_mut();
                for (block, bytes) in (begin..).zip(bytes.chunks_exact(BYTES)) {
                    let hash = if bytes == empty {
                        empty_hash
                    } else {
                        self.hasher.hash(bytes)
                    };
                    each(&mut state, block, &hash);
                }
            }
            begin = end;
            self.report();
            tokio::task::yield_now().await;
        }
    }

    /// Blocks of the slot itself are the last choice, since they have to be moved
    /// before anything else is written; but what is in place stays there, and can
    /// be copied from at any time.
    fn settle(&self, places: &mut [Place]) {
        let state = self.state.borrow();
        let mut kind = 0;
        while kind < places.len() {
            let members = state.wanted.members(kind);
            if let Some(there) = members.iter().find(|block| state.wanted.is_there(**block))
                && let Some(place) = Place::new(Place::SLOT, *there)
            {
                places[kind] = place;
            }
            kind += members.len();
        }
    }

    fn move_blocks(&self, places: &mut [Place]) -> Result<(), FetchError> {
        let mut kinds = Vec::new();
        let mut moves = Vec::new();
        {
            let state = self.state.borrow();
            let blocks = state.wanted.blocks();
            for (kind, place) in places.iter().enumerate() {
                let from = place.block();
                let stays = from >= blocks || state.wanted.is_there(from);
                if place.device() != Place::SLOT || stays {
                    continue;
                }
                let members = state.wanted.members(kind).iter().copied();
                let to: Vec<u32> = members
                    .filter(|block| !state.wanted.is_there(*block))
                    .collect();
                if !to.is_empty() {
                    kinds.push(kind);
                    moves.push(Move { from, to });
                }
            }
        }
        let read = |number: usize| {
            let mut block = [0; BYTES];
            let from: &Move = &moves[number];
            let read = self.target.data.read_at(&mut block, offset(from.from));
            read.is_ok().then_some(block)
        };
        let mut kept = None;
        for step in order(&moves) {
            let (number, block) = match step {
                Step::Keep(number) => {
                    kept = read(number);
                    continue;
                }
                Step::Write(number) => (number, kept.take()),
                Step::Move(number) => (number, read(number)),
            };
            // In any case it is not there any more.
            places[kinds[number]] = Place::default();
            if let Some(block) = block {
                self.write_moved(&moves[number].to, &block)?;
            }
        }
        Ok(())
    }

    fn write_moved(&self, to: &[u32], block: &[u8; BYTES]) -> Result<(), FetchError> {
        let hash = self.hasher.hash(block);
        let mut state = self.state.borrow_mut();
        for to in to
            .iter()
            .filter(|to| state.wanted.fits(**to, &hash))
            .copied()
            .collect::<Vec<_>>()
        {
            self.target
                .data
                .write_at(block, offset(to))
                .map_err(self.failed("writing the slot's root"))?;
            state.wanted.put(to, &hash);
            state.progress.reused += BLOCK;
        }
        Ok(())
    }

    async fn copy_blocks(&self, places: &[Place]) -> Result<(), FetchError> {
        let mut buffer = vec![0; RUN as usize * BYTES];
        let blocks = self.state.borrow().wanted.blocks();
        let place = |block: u32| {
            let state = self.state.borrow();
            if state.wanted.is_there(block) {
                return None;
            }
            let place = places[state.wanted.kind_of(block)];
            (place != Place::default()).then_some(place)
        };
        let mut block = 0;
        while block < blocks {
            let Some(first) = place(block) else {
                block += 1;
                continue;
            };
            let mut length = 1;
            while length < RUN && block + length < blocks {
                match place(block + length) {
                    Some(next) if next.0 == first.0 + length => length += 1,
                    _ => break,
                }
            }
            self.copy_run(first, block, length, &mut buffer)?;
            block += length;
            self.report();
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    fn copy_run(
        &self,
        from: Place,
        to: u32,
        length: u32,
        buffer: &mut [u8],
    ) -> Result<(), FetchError> {
        let device = match from.device() {
            Place::SLOT => self.target.data,
            seed => match self.seeds.get((seed - Place::SLOT - 1) as usize) {
                Some(seed) => seed.data,
                None => return Ok(()),
            },
        };
        let bytes = &mut buffer[..length as usize * BYTES];
        if device.read_at(bytes, offset(from.block())).is_err() {
            return Ok(());
        }
        let mut state = self.state.borrow_mut();
        let mut right = Vec::with_capacity(length as usize);
        for (block, bytes) in (to..).zip(bytes.chunks_exact(BYTES)) {
            let hash = self.hasher.hash(bytes);
            right.push(state.wanted.fits(block, &hash).then_some(hash));
        }
        // Blocks that are right are written together; one that is not ends a run.
        let mut begin = 0;
        while begin < right.len() {
            let count = right[begin..]
                .iter()
                .take_while(|hash| hash.is_some())
                .count();
            if count == 0 {
                begin += 1;
                continue;
            }
            self.target
                .data
                .write_at(
                    &bytes[begin * BYTES..(begin + count) * BYTES],
                    offset(to + begin as u32),
                )
                .map_err(self.failed("writing the slot's root"))?;
            for (at, hash) in right.iter().enumerate().skip(begin).take(count) {
                if let Some(hash) = hash {
                    state.wanted.put(to + at as u32, hash);
                    state.progress.reused += BLOCK;
                }
            }
            begin += count;
        }
        Ok(())
    }
}

/// Remembers where a kind is, unless a better place is known.
fn note(wanted: &Wanted, places: &mut [Place], device: u32, block: u32, hash: &[u8; 32]) {
    if let Some(kind) = wanted.kind(short(hash))
        && (places[kind] == Place::default()
            || places[kind].device() == Place::SLOT && device != Place::SLOT)
        && let Some(place) = Place::new(device, block)
    {
        places[kind] = place;
    }
}
