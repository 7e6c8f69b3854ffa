//! Reads a slot back from the medium and checks its content.

use block_device::BlockDevice;
use release::{BLOCK, BlockHasher, RootHash, TreeBuilder, VerityParameters};
use slots::{Proof, SlotId};

use crate::{DiskError, Slot, SystemDisk};

/// What is read at once.
const PIECE: u64 = 1 << 20;

/// A block of the hash tree that does not match the data.
enum Mismatch {
    Tree,
    Disk(DiskError),
}

impl<D: BlockDevice> SystemDisk<D> {
    /// Reads all of a slot from the medium and hashes it. `progress` gets the
    /// number of data bytes read. The answer stays in [`SystemDisk::view`]
    /// until the slot is written.
    ///
    /// # Errors
    /// The disk could not be read. A mismatch is not an error.
    pub fn prove(
        &self,
        slot: SlotId,
        parameters: &VerityParameters,
        root_hash: &RootHash,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool, DiskError> {
        let is_whole = self.hash(slot, parameters, progress)? == Some(*root_hash);
        self.guard.set_proof(
            slot,
            if is_whole {
                Proof::Whole(*root_hash)
            } else {
                Proof::Damaged
            },
        );
        Ok(is_whole)
    }

    /// As [`SystemDisk::prove`], of a slot that has a release's name: its ids
    /// are the root hash, and the superblock of its hash tree has the
    /// parameters.
    ///
    /// # Errors
    /// The disk could not be read.
    pub fn prove_named(
        &self,
        slot: SlotId,
        progress: &mut dyn FnMut(u64),
    ) -> Result<bool, DiskError> {
        let view = self.slot_view(slot);
        let root_hash = RootHash::of_ids(view.data_id, view.tree_id);
        let tree = self.slot(slot)?.tree;
        let mut superblock = vec![0; BLOCK as usize];
        if tree.length() < BLOCK {
            self.guard.set_proof(slot, Proof::Damaged);
            return Ok(false);
        }
        forget(&tree, BLOCK)?;
        tree.read_at(&mut superblock, 0).map_err(read(slot))?;
        match VerityParameters::parse(&superblock) {
            Ok(parameters) => self.prove(slot, &parameters, &root_hash, progress),
            Err(_) => {
                self.guard.set_proof(slot, Proof::Damaged);
                Ok(false)
            }
        }
    }

    /// The root hash of a slot's data, where its hash tree is that of the data.
    fn hash(
        &self,
        slot: SlotId,
        parameters: &VerityParameters,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Option<RootHash>, DiskError> {
        let Slot { data, tree } = self.slot(slot)?;
        let length = parameters.data_length();
        if data.length() < length || tree.length() < parameters.tree_length() {
            return Ok(None);
        }
        let Ok(mut builder) = TreeBuilder::new(parameters) else {
            return Ok(None);
        };
        data.flush().map_err(read(slot))?;
        forget(&data, length)?;
        forget(&tree, parameters.tree_length())?;
        let hasher = BlockHasher::new(parameters);
        let mut on_disk = [0; BLOCK as usize];
        let mut compare = |offset: u64, block: &[u8; BLOCK as usize]| {
            tree.read_at(&mut on_disk, offset)
                .map_err(|source| Mismatch::Disk(read(slot)(source)))?;
            if on_disk == *block {
                Ok(())
            } else {
                Err(Mismatch::Tree)
            }
        };
        let mut piece = vec![0; PIECE.min(length) as usize];
        let mut at = 0;
        let result = loop {
            if at == length {
                break builder.finish(&mut compare);
            }
            let part = &mut piece[..(length - at).min(PIECE) as usize];
            data.read_at(part, at).map_err(read(slot))?;
            let pushed = part
                .chunks_exact(BLOCK as usize)
                .try_for_each(|block| builder.push(hasher.hash(block), &mut compare));
            if let Err(mismatch) = pushed {
                break Err(mismatch);
            }
            at += part.len() as u64;
            progress(at);
        };
        match result {
            Ok(root_hash) => Ok(Some(root_hash)),
            Err(Mismatch::Tree) => Ok(None),
            Err(Mismatch::Disk(error)) => Err(error),
        }
    }
}

fn forget(device: &impl BlockDevice, length: u64) -> Result<(), DiskError> {
    device.forget(0, length).map_err(DiskError::io(
        "drop from the cache",
        "what was read of a slot",
    ))
}

fn read(slot: SlotId) -> impl FnOnce(std::io::Error) -> DiskError {
    DiskError::io("read", format!("slot {slot}"))
}
