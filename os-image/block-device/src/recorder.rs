//! A device in memory that remembers each write and each flush.

use std::cell::RefCell;
use std::io;
use std::ops::Range;

use crate::{BlockDevice, beyond};

/// What reached the device, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Write {
    /// Bytes at an offset.
    Bytes {
        /// Where they start.
        offset: u64,
        /// The bytes written.
        bytes: Vec<u8>,
    },
    /// Everything before is on the medium.
    Flush,
}

/// The device. [`Recorder::cuts`] lists what the medium may contain after a
/// power cut at each moment.
#[derive(Debug)]
pub struct Recorder {
    first: Vec<u8>,
    now: RefCell<Vec<u8>>,
    writes: RefCell<Vec<Write>>,
    sector: usize,
}

/// What a disk writes completely or not at all, by default.
const SECTOR: usize = 512;

impl Recorder {
    /// A device that contains `content`.
    pub fn new(content: Vec<u8>) -> Self {
        Self::with_sectors(content, SECTOR)
    }

    /// A device that contains `content` and writes `sector` bytes completely or
    /// not at all.
    pub fn with_sectors(content: Vec<u8>, sector: usize) -> Self {
        Self {
            sector,
            now: RefCell::new(content.clone()),
            first: content,
            writes: RefCell::default(),
        }
    }

    /// Its current content.
    pub fn now(&self) -> Vec<u8> {
        self.now.borrow().clone()
    }

    /// Its operations so far.
    pub fn writes(&self) -> Vec<Write> {
        self.writes.borrow().clone()
    }

    /// Calls `check` with each content that a power cut could leave, and its
    /// name. For each write: all up to it in order, torn at each of its
    /// sectors; and between two flushes, each sector written alone, and all but
    /// each one (the disk may write them in any order). Returns how many there
    /// were.
    ///
    /// The content is not copied for each; [`Overlay`] lets a check write.
    pub fn cuts(&self, mut check: impl FnMut(&str, &[u8])) -> usize {
        let mut medium = self.first.clone();
        let mut count = 0;
        let mut report = |name: String, content: &[u8]| {
            count += 1;
            check(&name, content);
        };
        report("before everything".to_owned(), &medium);
        let writes = self.writes.borrow();
        for (epoch, pending) in writes.split(|write| *write == Write::Flush).enumerate() {
            let sectors: Vec<(u64, &[u8])> = pending
                .iter()
                .flat_map(|write| sectors(write, self.sector))
                .collect();
            let mut whole = medium.clone();
            for sector in &sectors {
                put(&mut whole, *sector);
            }
            for (at, sector) in sectors.iter().enumerate() {
                let touched = self.around(*sector);
                let before = medium[touched.clone()].to_vec();
                put(&mut medium, *sector);
                report(format!("epoch {epoch}: only sector write {at}"), &medium);
                medium[touched.clone()].copy_from_slice(&before);

                let complete = whole[touched.clone()].to_vec();
                whole[touched.clone()].copy_from_slice(&before);
                for (other, sector) in sectors.iter().enumerate() {
                    if other != at && self.around(*sector) == touched {
                        put(&mut whole, *sector);
                    }
                }
                report(format!("epoch {epoch}: all but sector write {at}"), &whole);
                whole[touched].copy_from_slice(&complete);
            }
            for (at, sector) in sectors.iter().enumerate() {
                put(&mut medium, *sector);
                report(format!("epoch {epoch}: up to sector write {at}"), &medium);
            }
        }
        count
    }

    /// The sector that a write goes to.
    fn around(&self, (offset, _): (u64, &[u8])) -> Range<usize> {
        let start = offset as usize / self.sector * self.sector;
        start..(start + self.sector).min(self.first.len())
    }
}

/// A write sector by sector.
fn sectors(write: &Write, sector: usize) -> impl Iterator<Item = (u64, &[u8])> {
    let (offset, bytes) = match write {
        Write::Bytes { offset, bytes } => (*offset, bytes.as_slice()),
        Write::Flush => (0, [].as_slice()),
    };
    // A write that does not start at a sector's start touches that sector too.
    let head = (sector - (offset as usize % sector)) % sector;
    let (first, rest) = bytes.split_at(head.min(bytes.len()));
    let start = offset + first.len() as u64;
    (!first.is_empty())
        .then_some((offset, first))
        .into_iter()
        .chain(
            rest.chunks(sector)
                .enumerate()
                .map(move |(number, bytes)| (start + (number * sector) as u64, bytes)),
        )
}

fn put(content: &mut [u8], (offset, bytes): (u64, &[u8])) {
    let offset = offset as usize;
    content[offset..offset + bytes.len()].copy_from_slice(bytes);
}

impl BlockDevice for Recorder {
    fn length(&self) -> u64 {
        self.first.len() as u64
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let now = self.now.borrow();
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        match now.get(start..start.saturating_add(bytes.len())) {
            Some(content) => {
                bytes.copy_from_slice(content);
                Ok(())
            }
            None => Err(beyond(self.length())),
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let start = usize::try_from(offset).unwrap_or(usize::MAX);
        let mut now = self.now.borrow_mut();
        match now.get_mut(start..start.saturating_add(bytes.len())) {
            Some(content) => content.copy_from_slice(bytes),
            None => return Err(beyond(self.length())),
        }
        self.writes.borrow_mut().push(Write::Bytes {
            offset,
            bytes: bytes.to_vec(),
        });
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        self.writes.borrow_mut().push(Write::Flush);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_flushed_is_in_every_later_cut() {
        let disk = Recorder::new(vec![0; 2048]);
        disk.write_at(&[1; 1024], 0).unwrap();
        disk.flush().unwrap();
        disk.write_at(&[2; 512], 1024).unwrap();
        let mut contents = Vec::new();
        let count = disk.cuts(|_, content| {
            contents.push([content[0], content[512], content[1024]]);
        });
        assert_eq!(count, contents.len());
        contents.sort_unstable();
        contents.dedup();
        assert_eq!(
            contents,
            [[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [1, 1, 2]]
        );
    }
}
