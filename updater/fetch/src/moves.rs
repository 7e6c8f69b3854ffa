//! In which order blocks are moved within a slot, so that none is overwritten
//! before it is used.
//!
//! A move reads one block and writes others. It has to come before whatever writes
//! the block that it reads. Each move reads one block, and each block is written by
//! one move at most, so each move has at most one that has to come after it: chains
//! that end, or end in a circle. A circle is opened by keeping one block in memory
//! while the others of it move.

/// A block that has to be elsewhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Move {
    /// Where it is.
    pub from: u32,
    /// Where it belongs: none of these is `from`, and no two moves have one in
    /// common.
    pub to: Vec<u32>,
}

/// The next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// The block of this move is read and written where it belongs.
    Move(usize),
    /// The block of this move is read and kept. At most one is kept at a time.
    Keep(usize),
    /// The kept block is written where it belongs.
    Write(usize),
}

/// All moves in an order that loses nothing.
pub(crate) fn order(moves: &[Move]) -> Vec<Step> {
    // Which move writes a block.
    let mut writers: Vec<(u32, usize)> = moves
        .iter()
        .enumerate()
        .flat_map(|(number, one)| one.to.iter().map(move |block| (*block, number)))
        .collect();
    writers.sort_unstable();
    let after = |number: usize| {
        let from = moves[number].from;
        writers
            .binary_search_by_key(&from, |(block, _)| *block)
            .ok()
            .map(|at| writers[at].1)
    };
    // How many moves have to come before one.
    let mut before = vec![0_u32; moves.len()];
    for number in 0..moves.len() {
        if let Some(later) = after(number) {
            before[later] += 1;
        }
    }
    let mut steps = Vec::with_capacity(moves.len());
    let mut done = vec![false; moves.len()];
    for first in 0..moves.len() {
        // A chain from a move that nothing has to precede any more.
        let mut next = Some(first);
        while let Some(number) = next
            && before[number] == 0
            && !done[number]
        {
            done[number] = true;
            steps.push(Step::Move(number));
            next = after(number);
            if let Some(later) = next {
                before[later] -= 1;
            }
        }
    }
    // Only circles are left.
    for number in 0..moves.len() {
        if done[number] {
            continue;
        }
        steps.push(Step::Keep(number));
        let mut next = after(number);
        while let Some(later) = next
            && !done[later]
        {
            done[later] = true;
            if later == number {
                steps.push(Step::Write(number));
                break;
            }
            steps.push(Step::Move(later));
            next = after(later);
        }
    }
    steps
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Does as the steps say.
    fn perform(moves: &[Move], steps: &[Step], slot: &mut [u32]) {
        let mut kept = None;
        for step in steps {
            match *step {
                Step::Move(number) => {
                    let block = slot[moves[number].from as usize];
                    moves[number]
                        .to
                        .iter()
                        .for_each(|to| slot[*to as usize] = block);
                }
                Step::Keep(number) => {
                    assert_eq!(kept, None);
                    kept = Some((number, slot[moves[number].from as usize]));
                }
                Step::Write(number) => {
                    let (of, block) = kept.take().unwrap();
                    assert_eq!(of, number);
                    moves[number]
                        .to
                        .iter()
                        .for_each(|to| slot[*to as usize] = block);
                }
            }
        }
        assert_eq!(kept, None);
    }

    proptest! {
        #[test]
        fn every_block_arrives(targets in proptest::collection::vec(0_usize..40, 1..40)) {
            // Block `targets[at]` belongs at `at`; every block holds its number.
            let size = targets.len();
            let mut moves: Vec<Move> = (0..size as u32).map(|from| Move { from, to: vec![] }).collect();
            for (at, from) in targets.iter().enumerate() {
                let from = from % size;
                if from != at {
                    moves[from].to.push(at as u32);
                }
            }
            moves.retain(|one| !one.to.is_empty());
            let mut slot: Vec<u32> = (0..size as u32).collect();
            let steps = order(&moves);
            perform(&moves, &steps, &mut slot);
            for one in &moves {
                for to in &one.to {
                    prop_assert_eq!(slot[*to as usize], one.from);
                }
            }
        }
    }

    #[test]
    fn a_circle_needs_one_block_of_memory() {
        let circle = [(0, 1), (1, 2), (2, 0)].map(|(from, to)| Move { from, to: vec![to] });
        let steps = order(&circle);
        assert_eq!(
            steps,
            [Step::Keep(0), Step::Move(2), Step::Move(1), Step::Write(0)]
        );
        let mut slot = [10, 11, 12];
        perform(&circle, &steps, &mut slot);
        assert_eq!(slot, [12, 10, 11]);
    }
}
