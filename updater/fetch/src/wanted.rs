//! The blocks that a root is to have, and where each can be found by its content.

use release::{BlockIndex, Short, short};

/// The blocks of a root by place and by content, and which are there already.
///
/// Equal blocks of a root are a *kind*. A kind is named by its place in the order
/// of the hashes.
#[derive(Debug)]
pub(crate) struct Wanted {
    index: BlockIndex,
    /// Block numbers in the order of their hashes.
    order: Vec<u32>,
    /// The whole hash of each block that is there.
    leaves: Vec<[u8; 32]>,
    /// A bit for each block that is there.
    there: Vec<u64>,
    left: u64,
}

impl Wanted {
    /// All blocks of `index`, none of them there.
    pub(crate) fn new(index: BlockIndex) -> Self {
        let blocks = index.hashes().len();
        let mut order: Vec<u32> = (0..blocks as u32).collect();
        order.sort_unstable_by_key(|block| (index.hashes()[*block as usize], *block));
        Self {
            order,
            leaves: vec![[0; 32]; blocks],
            there: vec![0; blocks.div_ceil(64)],
            left: blocks as u64,
            index,
        }
    }

    pub(crate) fn blocks(&self) -> u32 {
        self.order.len() as u32
    }

    /// How many are not there yet.
    pub(crate) fn left(&self) -> u64 {
        self.left
    }

    pub(crate) fn is_there(&self, block: u32) -> bool {
        self.there[block as usize / 64] >> (block % 64) & 1 == 1
    }

    /// Whether a hash is that of what belongs at `block`.
    pub(crate) fn fits(&self, block: u32, hash: &[u8; 32]) -> bool {
        self.short(block) == short(hash)
    }

    pub(crate) fn short(&self, block: u32) -> Short {
        self.index.hashes()[block as usize]
    }

    /// `block` holds what it has to, with this hash.
    pub(crate) fn put(&mut self, block: u32, hash: &[u8; 32]) {
        if !self.is_there(block) {
            self.there[block as usize / 64] |= 1 << (block % 64);
            self.left -= 1;
        }
        self.leaves[block as usize] = *hash;
    }

    /// `block` does not hold what it has to.
    pub(crate) fn take_back(&mut self, block: u32) {
        if self.is_there(block) {
            self.there[block as usize / 64] &= !(1 << (block % 64));
            self.left += 1;
        }
    }

    pub(crate) fn leaves(&self) -> &[[u8; 32]] {
        &self.leaves
    }

    /// The kind with this hash, where some block has it.
    pub(crate) fn kind(&self, hash: Short) -> Option<usize> {
        let at = self
            .order
            .partition_point(|block| self.short(*block) < hash);
        let block = self.order.get(at)?;
        (self.short(*block) == hash).then_some(at)
    }

    /// The kind of a block.
    pub(crate) fn kind_of(&self, block: u32) -> usize {
        let key = self.short(block);
        self.order.partition_point(|other| self.short(*other) < key)
    }

    /// The blocks of a kind, ascending.
    pub(crate) fn members(&self, kind: usize) -> &[u32] {
        let rest = &self.order[kind..];
        let hash = rest.first().map(|block| self.short(*block));
        let count = rest.partition_point(|block| Some(self.short(*block)) == hash);
        &rest[..count]
    }

    /// The blocks that have to be fetched, as runs: of equal ones the first.
    pub(crate) fn missing(&self) -> Vec<std::ops::Range<u32>> {
        let mut runs: Vec<std::ops::Range<u32>> = Vec::new();
        for block in (0..self.blocks()).filter(|block| !self.is_there(*block)) {
            let members = self.members(self.kind_of(block));
            if members.iter().find(|other| !self.is_there(**other)) != Some(&block) {
                continue;
            }
            match runs.last_mut() {
                Some(run) if run.end == block => run.end += 1,
                _ => runs.push(block..block + 1),
            }
        }
        runs
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_blocks_are_one_kind_and_fetched_once() {
        let shorts = [5_u8, 1, 5, 2, 3, 5].map(|byte| [byte; 8]);
        let mut wanted = Wanted::new(shorts.into_iter().collect());
        let kind = wanted.kind([5; 8]).unwrap();
        assert_eq!(wanted.members(kind), [0, 2, 5]);
        assert_eq!(wanted.kind_of(2), kind);
        assert_eq!(wanted.kind([4; 8]), None);
        assert_eq!(wanted.kind([9; 8]), None);
        assert_eq!(wanted.missing(), [0..2, 3..5]);
        wanted.put(3, &[2; 32]);
        wanted.put(0, &[5; 32]);
        assert_eq!(wanted.left(), 4);
        assert_eq!(wanted.missing(), [1..3, 4..5]);
        wanted.take_back(3);
        let missing: Vec<u32> = wanted.missing().into_iter().flatten().collect();
        assert_eq!(missing, [1, 2, 3, 4]);
    }
}
