//! Unchanged content, and what was written over it.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;

use crate::{BlockDevice, within};

/// A device over someone else's content: writes are kept beside it. So a check
/// can continue from each content of [`crate::Recorder::cuts`] without copying
/// a whole disk for it.
#[derive(Debug)]
pub struct Overlay<'a> {
    content: &'a [u8],
    changed: RefCell<BTreeMap<u64, [u8; BLOCK as usize]>>,
}

const BLOCK: u64 = 512;

impl<'a> Overlay<'a> {
    /// A device that contains `content`.
    pub fn new(content: &'a [u8]) -> Self {
        Self {
            content,
            changed: RefCell::default(),
        }
    }

    /// The content with all changes.
    pub fn now(&self) -> Vec<u8> {
        let mut now = self.content.to_vec();
        for (block, bytes) in self.changed.borrow().iter() {
            let start = (block * BLOCK) as usize;
            let end = now.len().min(start + bytes.len());
            now[start..end].copy_from_slice(&bytes[..end - start]);
        }
        now
    }

    fn original(&self, block: u64) -> [u8; BLOCK as usize] {
        let mut bytes = [0; BLOCK as usize];
        let start = (block * BLOCK) as usize;
        let end = self.content.len().min(start + bytes.len());
        bytes[..end - start].copy_from_slice(&self.content[start..end]);
        bytes
    }
}

/// The parts of a range block by block: (block, first byte in it, length).
fn parts(offset: u64, length: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + length as u64;
    (offset / BLOCK..end.div_ceil(BLOCK)).map(move |block| {
        let start = offset.max(block * BLOCK);
        let stop = end.min((block + 1) * BLOCK);
        (block, (start % BLOCK) as usize, (stop - start) as usize)
    })
}

impl BlockDevice for Overlay<'_> {
    fn length(&self) -> u64 {
        self.content.len() as u64
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        within(self.length(), bytes.len(), offset)?;
        let start = offset as usize;
        let length = bytes.len();
        bytes.copy_from_slice(&self.content[start..start + length]);
        let changed = self.changed.borrow();
        if changed.is_empty() {
            return Ok(());
        }
        let mut rest = bytes;
        for (block, at, length) in parts(offset, length) {
            let (part, behind) = rest.split_at_mut(length);
            if let Some(block) = changed.get(&block) {
                part.copy_from_slice(&block[at..at + length]);
            }
            rest = behind;
        }
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        within(self.length(), bytes.len(), offset)?;
        let mut changed = self.changed.borrow_mut();
        let mut rest = bytes;
        for (block, at, length) in parts(offset, bytes.len()) {
            let (part, behind) = rest.split_at(length);
            changed.entry(block).or_insert_with(|| self.original(block))[at..at + length]
                .copy_from_slice(part);
            rest = behind;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_content_below_is_not_changed() {
        let content: Vec<u8> = (0..2000).map(|byte| byte as u8).collect();
        let device = Overlay::new(&content);
        let mut wanted = content.clone();
        for (offset, length) in [(0, 3), (500, 20), (511, 514), (1990, 10), (7, 0)] {
            wanted[offset..offset + length].fill(0xaa);
            device.write_at(&vec![0xaa; length], offset as u64).unwrap();
            let mut read = vec![0; 1500];
            device.read_at(&mut read, 333).unwrap();
            assert_eq!(read, wanted[333..1833]);
            assert_eq!(device.now(), wanted);
        }
        assert!(device.write_at(&[0; 2], 1999).is_err());
        assert!(device.read_at(&mut [0; 2], 1999).is_err());
    }
}
