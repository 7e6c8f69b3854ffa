//! Every content that a power cut can leave on a disk, given what was written
//! and flushed.
//!
//! What a flush covers is on the medium. Of what came after the last flush the
//! disk may have written any sectors, in any order. All of that cannot be tried,
//! so in each *epoch* (the writes between two flushes) these are:
//!
//! - each write being the last, and torn behind some of its sectors;
//! - each write alone, and all but each one; the same for single sectors where
//!   they are few;
//! - its last half without its first;
//! - sets of writes drawn at random, always the same ones; all sets where the
//!   writes are few.

use super::log::Request;
use super::medium::{Medium, SECTOR, Undo};
use std::ops::Range;

/// Which kind of content a point is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The power was cut at a moment at which everything had been written in
    /// the order in which it was asked for.
    Cut,
    /// The disk had written later things before earlier ones.
    Reordering,
}

/// One content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Point {
    /// Which kind it is of.
    pub kind: Kind,
    /// How many flushes came before.
    pub epoch: usize,
    /// What is there of the epoch's writes.
    pub name: String,
}

/// All sectors one by one only in epochs with at most as many.
const FEW_SECTORS: usize = 96;
/// All sets of an epoch's writes only where there are at most as many writes.
const FEW_WRITES: usize = 5;
/// Otherwise so many sets.
const SETS: usize = 24;
/// A write is torn behind each of its sectors where it has at most as many;
/// otherwise behind the first, in the middle and before the last.
const FEW_TEARS: usize = 16;

struct Write<'a> {
    offset: u64,
    bytes: &'a [u8],
}

/// Plays `requests` on `medium`, which then holds all of them, and calls `visit`
/// with each content in between. Writes outside `relevant` leave none.
pub fn explore(
    medium: &mut Medium,
    requests: &[Request],
    relevant: impl Fn(Range<u64>) -> bool,
    visit: &mut dyn FnMut(&Medium, &Point),
) {
    let mut random = Random(0x5eed_00ff);
    for (number, epoch) in requests
        .split(|request| *request == Request::Flush)
        .enumerate()
    {
        let mut writes = Vec::new();
        for request in epoch {
            if let Request::Write { offset, bytes } = request {
                if relevant(*offset..offset + bytes.len() as u64) {
                    writes.push(Write {
                        offset: *offset,
                        bytes,
                    });
                } else {
                    let _ = medium.write(*offset, bytes);
                }
            }
        }
        let mut epoch = Epoch {
            medium,
            writes,
            number,
            visit,
        };
        epoch.sets(&mut random);
        epoch.sectors();
        epoch.alone();
        let applied = epoch.in_order();
        epoch.missing(&applied);
    }
}

struct Epoch<'a, 'b> {
    medium: &'a mut Medium,
    writes: Vec<Write<'b>>,
    number: usize,
    visit: &'a mut dyn FnMut(&Medium, &Point),
}

impl Epoch<'_, '_> {
    /// Each write alone, and the last half of each.
    fn alone(&mut self) {
        for index in 0..self.writes.len() {
            if self.writes.len() > 1 {
                let undo = self.apply(index, None);
                self.report(Kind::Reordering, format!("only write {index}"));
                self.medium.undo(&undo);
            }
            let sectors = self.writes[index].bytes.len() / SECTOR;
            if sectors > 1 {
                let half = sectors / 2 * SECTOR..self.writes[index].bytes.len();
                let undo = self.apply(index, Some(half));
                self.report(
                    Kind::Reordering,
                    format!("only the last half of write {index}"),
                );
                self.medium.undo(&undo);
            }
        }
    }

    /// Each sector alone, and all but each.
    fn sectors(&mut self) {
        let all: Vec<(usize, Range<usize>)> = self
            .writes
            .iter()
            .enumerate()
            .flat_map(|(index, write)| {
                (0..write.bytes.len() / SECTOR)
                    .map(move |sector| (index, sector * SECTOR..(sector + 1) * SECTOR))
            })
            .collect();
        if all.len() < 2 || all.len() > FEW_SECTORS {
            return;
        }
        for (number, (index, range)) in all.iter().enumerate() {
            let undo = self.apply(*index, Some(range.clone()));
            self.report(Kind::Reordering, format!("only sector {number}"));
            self.medium.undo(&undo);
            let mut undo = Vec::new();
            for (other, (index, range)) in all.iter().enumerate() {
                if other != number {
                    undo.push(self.apply(*index, Some(range.clone())));
                }
            }
            self.report(Kind::Reordering, format!("all but sector {number}"));
            self.take_back(undo);
        }
    }

    /// Sets of writes, in their order.
    fn sets(&mut self, random: &mut Random) {
        let count = self.writes.len();
        let sets: Vec<Vec<usize>> = if count <= FEW_WRITES {
            (1..(1usize << count).saturating_sub(1))
                .map(|set| (0..count).filter(|index| set >> index & 1 == 1).collect())
                .collect()
        } else {
            (0..SETS)
                .map(|_| (0..count).filter(|_| random.next() & 1 == 1).collect())
                .collect()
        };
        for set in sets {
            let undo = set.iter().map(|index| self.apply(*index, None)).collect();
            self.report(Kind::Reordering, format!("only writes {set:?}"));
            self.take_back(undo);
        }
    }

    /// One write after the other, each torn; they stay. Returns how to take each
    /// back.
    fn in_order(&mut self) -> Vec<Undo> {
        let mut applied = Vec::new();
        for index in 0..self.writes.len() {
            let sectors = self.writes[index].bytes.len() / SECTOR;
            for tear in tears(sectors) {
                let undo = self.apply(index, Some(0..tear * SECTOR));
                self.report(
                    Kind::Cut,
                    format!("write {index}, torn behind sector {tear}"),
                );
                self.medium.undo(&undo);
            }
            applied.push(self.apply(index, None));
            self.report(Kind::Cut, format!("up to write {index}"));
        }
        applied
    }

    /// All but each one. All of them are there, and are again afterwards.
    fn missing(&mut self, applied: &[Undo]) {
        // The last one's absence was the point before it.
        for index in 0..applied.len().saturating_sub(1) {
            let later = index + 1..applied.len();
            let name = format!("all but write {index}");
            if !later.clone().any(|other| self.overlap(index, other)) {
                let undo = self
                    .medium
                    .write(applied[index].offset, &applied[index].bytes);
                self.report(Kind::Reordering, name);
                self.medium.undo(&undo);
                continue;
            }
            for undo in applied[index..].iter().rev() {
                self.medium.undo(undo);
            }
            let undo = later.map(|other| self.apply(other, None)).collect();
            self.report(Kind::Reordering, name);
            self.take_back(undo);
            for again in index..applied.len() {
                let _ = self.apply(again, None);
            }
        }
    }

    fn overlap(&self, one: usize, other: usize) -> bool {
        let end = |write: &Write| write.offset + write.bytes.len() as u64;
        let (one, other) = (&self.writes[one], &self.writes[other]);
        one.offset < end(other) && other.offset < end(one)
    }

    fn apply(&mut self, index: usize, part: Option<Range<usize>>) -> Undo {
        let write = &self.writes[index];
        let part = part.unwrap_or(0..write.bytes.len());
        self.medium
            .write(write.offset + part.start as u64, &write.bytes[part])
    }

    fn take_back(&mut self, undo: Vec<Undo>) {
        for undo in undo.iter().rev() {
            self.medium.undo(undo);
        }
    }

    fn report(&mut self, kind: Kind, name: String) {
        let point = Point {
            kind,
            epoch: self.number,
            name,
        };
        (self.visit)(self.medium, &point);
    }
}

fn tears(sectors: usize) -> Vec<usize> {
    if sectors <= FEW_TEARS {
        (1..sectors).collect()
    } else {
        vec![1, sectors / 2, sectors - 1]
    }
}

/// xorshift64: the same numbers in each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }
}

#[cfg(test)]
mod tests {
    use super::{Kind, explore};
    use crate::power_cut::log::Request;
    use crate::power_cut::medium::Medium;
    use std::collections::BTreeSet;

    fn write(sector: u64, content: &[u8]) -> Request {
        let bytes = content.iter().flat_map(|byte| [*byte; 512]).collect();
        Request::Write {
            offset: sector * 512,
            bytes,
        }
    }

    /// The first sectors' contents at all points, and how many points of each kind.
    fn contents(requests: &[Request]) -> (BTreeSet<[u8; 4]>, usize, usize) {
        let mut medium = Medium::new(16 * 512);
        let (mut seen, mut cuts, mut reorderings) = (BTreeSet::new(), 0, 0);
        explore(&mut medium, requests, |_| true, &mut |medium, point| {
            seen.insert([0, 1, 2, 3].map(|sector| medium.bytes()[sector * 512]));
            match point.kind {
                Kind::Cut => cuts += 1,
                Kind::Reordering => reorderings += 1,
            }
        });
        (seen, cuts, reorderings)
    }

    #[test]
    fn without_a_flush_any_write_may_be_there_and_with_one_the_first_is() {
        let (seen, cuts, reorderings) = contents(&[write(0, &[1]), write(1, &[2])]);
        assert_eq!(cuts, 2);
        assert!(reorderings > 0);
        assert_eq!(
            seen,
            BTreeSet::from([[0, 2, 0, 0], [1, 0, 0, 0], [1, 2, 0, 0]])
        );
        let (seen, cuts, _) = contents(&[write(0, &[1]), Request::Flush, write(1, &[2])]);
        assert_eq!(cuts, 2);
        assert_eq!(seen, BTreeSet::from([[1, 0, 0, 0], [1, 2, 0, 0]]));
    }

    #[test]
    fn a_write_is_torn_at_sectors_from_both_ends() {
        let (seen, cuts, _) = contents(&[write(0, &[1, 2, 3, 4])]);
        assert_eq!(cuts, 4);
        for torn in [[1, 0, 0, 0], [1, 2, 3, 0], [0, 0, 3, 4], [0, 2, 3, 4]] {
            assert!(seen.contains(&torn), "{torn:?}");
        }
    }

    #[test]
    fn a_later_write_to_the_same_place_counts_and_all_but_each_is_as_it_should_be() {
        let requests = [
            write(0, &[1]),
            write(0, &[2]),
            write(1, &[3]),
            write(2, &[4]),
            write(0, &[5]),
            write(3, &[6]),
        ];
        let mut medium = Medium::new(16 * 512);
        let mut without = Vec::new();
        explore(&mut medium, &requests, |_| true, &mut |medium, point| {
            if let Some(number) = point.name.strip_prefix("all but write ") {
                let sectors = [0, 1, 2, 3].map(|sector| medium.bytes()[sector * 512]);
                without.push((number.parse().unwrap(), sectors));
            }
        });
        assert_eq!(
            without,
            [
                (0, [5, 3, 4, 6]),
                (1, [5, 3, 4, 6]),
                (2, [5, 0, 4, 6]),
                (3, [5, 3, 0, 6]),
                (4, [2, 3, 4, 6]),
            ]
        );
        assert_eq!(medium.bytes()[0], 5);
    }

    #[test]
    fn what_is_not_relevant_is_written_and_leaves_no_point() {
        let mut medium = Medium::new(16 * 512);
        let mut count = 0;
        let requests = [write(9, &[1]), write(0, &[2])];
        explore(
            &mut medium,
            &requests,
            |range| range.start < 4096,
            &mut |_, _| count += 1,
        );
        assert_eq!(count, 1);
        assert_eq!(medium.bytes()[9 * 512], 1);
    }
}
