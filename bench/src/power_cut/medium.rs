//! What a disk holds, changed write by write and back again.

use anyhow::{Context, Result};
use nix::unistd::{Whence, lseek};
use std::collections::BTreeMap;
use std::fs::File;
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a disk writes atomically.
pub const SECTOR: usize = 512;

/// The content of a disk in memory. Regions of it have fingerprints that follow
/// each change, so that what was found out about a content is not found out
/// again when it comes back.
#[derive(Debug)]
pub struct Medium {
    bytes: Vec<u8>,
    /// Where regions begin, and the sum of their sectors' hashes.
    regions: BTreeMap<u64, u64>,
}

/// How to take a change back.
#[derive(Debug)]
#[must_use]
pub struct Undo {
    pub(super) offset: u64,
    pub(super) bytes: Vec<u8>,
}

impl Medium {
    /// Zeros.
    pub fn new(length: usize) -> Self {
        Self {
            bytes: vec![0; length],
            regions: BTreeMap::from([(0, 0)]),
        }
    }

    /// A disk image's content. Holes of the file take no memory.
    pub fn load(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("open {}", path.display()))?;
        let length = file.metadata()?.len();
        let mut medium = Self::new(usize::try_from(length)?);
        let mut at = 0;
        while at < length {
            let Ok(start) = lseek(&file, i64::try_from(at)?, Whence::SeekData) else {
                break;
            };
            let end = lseek(&file, start, Whence::SeekHole)?;
            let part = usize::try_from(start)?..usize::try_from(end)?;
            file.read_exact_at(&mut medium.bytes[part], u64::try_from(start)?)
                .with_context(|| format!("read {}", path.display()))?;
            at = u64::try_from(end)?;
        }
        Ok(medium)
    }

    /// Writes it to a new file, zeros as holes.
    pub fn save(&self, path: &Path) -> Result<()> {
        const CHUNK: usize = 1 << 16;
        static ZEROS: [u8; CHUNK] = [0; CHUNK];
        let file = File::create(path).with_context(|| format!("create {}", path.display()))?;
        file.set_len(self.bytes.len() as u64)?;
        for (number, chunk) in self.bytes.chunks(CHUNK).enumerate() {
            if *chunk != ZEROS[..chunk.len()] {
                file.write_all_at(chunk, (number * CHUNK) as u64)
                    .with_context(|| format!("write {}", path.display()))?;
            }
        }
        Ok(())
    }

    /// Lets a region begin at each of these offsets and reach to the next.
    pub fn divide(&mut self, starts: impl IntoIterator<Item = u64>) {
        self.regions = starts.into_iter().map(|start| (start, 0)).collect();
        self.regions.entry(0).or_default();
    }

    /// The fingerprint of the region that begins at `start`. It is the same
    /// whenever the region's content is, and another for other contents.
    pub fn fingerprint(&self, start: u64) -> u64 {
        self.regions.get(&start).copied().unwrap_or_default()
    }

    /// The fingerprints of all regions but the one that begins at `start`.
    pub fn fingerprints_but(&self, start: u64) -> Vec<u64> {
        self.regions
            .iter()
            .filter(|(at, _)| **at != start)
            .map(|(_, sum)| *sum)
            .collect()
    }

    /// All of it.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Its part at `range`; nothing where it ends before.
    pub fn part(&self, range: Range<u64>) -> Option<&[u8]> {
        let range = usize::try_from(range.start).ok()?..usize::try_from(range.end).ok()?;
        self.bytes.get(range)
    }

    /// The same as something to read from.
    pub fn reader(&self, range: Range<u64>) -> Option<Reader<'_>> {
        self.part(range).map(|bytes| Reader(io::Cursor::new(bytes)))
    }

    /// Writes whole sectors. What would be behind the end is left out.
    pub fn write(&mut self, offset: u64, bytes: &[u8]) -> Undo {
        let start = usize::try_from(offset)
            .unwrap_or(usize::MAX)
            .min(self.bytes.len());
        let end = start.saturating_add(bytes.len()).min(self.bytes.len());
        let undo = Undo {
            offset,
            bytes: self.bytes[start..end].to_vec(),
        };
        self.replace(offset, &bytes[..end - start]);
        undo
    }

    /// Takes the last change back.
    pub fn undo(&mut self, undo: &Undo) {
        self.replace(undo.offset, &undo.bytes);
    }

    fn replace(&mut self, offset: u64, bytes: &[u8]) {
        for (number, new) in bytes.chunks(SECTOR).enumerate() {
            let start = offset as usize + number * SECTOR;
            let old = &mut self.bytes[start..start + new.len()];
            if old == new {
                continue;
            }
            let at = start as u64;
            if let Some((_, sum)) = self.regions.range_mut(..=at).next_back() {
                *sum ^= hash(at, old) ^ hash(at, new);
            }
            old.copy_from_slice(new);
        }
    }
}

fn hash(at: u64, sector: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(at);
    hasher.write(sector);
    hasher.finish()
}

/// A part of a medium, for libraries that read from files. Nothing can be
/// written.
#[derive(Debug, Clone)]
pub struct Reader<'a>(io::Cursor<&'a [u8]>);

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.0.seek(to)
    }
}

impl Write for Reader<'_> {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(io::ErrorKind::ReadOnlyFilesystem.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::Medium;

    fn all(medium: &Medium) -> Vec<u64> {
        medium.fingerprints_but(u64::MAX)
    }

    #[test]
    fn a_change_that_is_taken_back_leaves_no_trace() {
        let mut medium = Medium::new(8192);
        medium.divide([0, 4096]);
        let before = all(&medium);
        let first = medium.write(4096, &[1; 1024]);
        let between = all(&medium);
        assert_eq!(between[0], before[0]);
        assert_ne!(between[1], before[1]);
        let second = medium.write(4608, &[2; 512]);
        assert_ne!(all(&medium), between);
        medium.undo(&second);
        assert_eq!(all(&medium), between);
        medium.undo(&first);
        assert_eq!(all(&medium), before);
        assert!(medium.bytes().iter().all(|byte| *byte == 0));
    }

    #[test]
    fn the_same_content_at_another_place_is_another_content() {
        let (mut one, mut other) = (Medium::new(4096), Medium::new(4096));
        let _ = one.write(0, &[1; 512]);
        let _ = other.write(512, &[1; 512]);
        assert_ne!(all(&one), all(&other));
    }

    #[test]
    fn a_saved_medium_is_the_one_that_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("disk");
        let mut medium = Medium::new(1 << 20);
        let _ = medium.write(512 * 1001, &[7; 512]);
        medium.save(&path).unwrap();
        assert_eq!(Medium::load(&path).unwrap().bytes(), medium.bytes());
    }
}
