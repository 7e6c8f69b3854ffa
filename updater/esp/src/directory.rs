//! Folders: their entries, and how these are changed.

use std::ops::Range;

use block_device::BlockDevice;

use crate::boot_sector::Geometry;
use crate::name::{self, Short};
use crate::table::{Chain, Tables};
use crate::{ATOMIC, Error};

/// Bytes of an entry.
pub const ENTRY: usize = 32;
/// Entries in what is written at once.
const PER_WRITE: usize = ATOMIC / ENTRY;
/// The longest folder (FAT specification, section 6).
const MAX: u64 = 65_536 * ENTRY as u64;

const READ_ONLY_TO_ARCHIVE: u8 = 0x3f;
const LONG_NAME: u8 = 0x0f;
const VOLUME: u8 = 0x08;
const FOLDER: u8 = 0x10;
const ARCHIVE: u8 = 0x20;
/// The first byte of an entry that was removed.
const REMOVED: u8 = 0xe5;

/// 1 January 1980, the first day that there is: what changes an ESP may have no
/// clock, and the date is never read.
const DATE: [u8; 2] = [0x21, 0];

/// A file or folder.
#[derive(Clone, Debug)]
pub struct Record {
    pub name: String,
    pub short: Short,
    pub is_folder: bool,
    /// Its first cluster; 0 for none.
    pub first: u32,
    /// Bytes; 0 of a folder.
    pub length: u32,
    /// Its entries: those of the long name, then the short one.
    pub slots: Range<usize>,
}

impl Record {
    /// Where the short entry is, which is what makes a file.
    pub fn slot(&self) -> usize {
        self.slots.end - 1
    }

    /// Whether `name` refers to it.
    pub fn is_called(&self, name: &str) -> bool {
        name::same(&self.name, name) || name::same(&name::text(&self.short, 0), name)
    }
}

/// A folder, read completely.
#[derive(Clone, Debug)]
pub struct Directory {
    /// For errors.
    pub path: String,
    pub chain: Chain,
    /// Its last cluster, where the table does not say so.
    pub unended: Option<u32>,
    pub bytes: Vec<u8>,
}

impl Directory {
    /// Reads the folder that begins with a cluster.
    pub fn load(
        device: &impl BlockDevice,
        geometry: &Geometry,
        tables: &Tables,
        first: u32,
        path: &str,
    ) -> Result<Self, Error> {
        let limit = (MAX / geometry.cluster).max(1);
        let (chain, unended) = tables.folder_chain(device, first, limit)?;
        let unended = unended.map_err(|wrong| Error::damaged(path, wrong))?;
        let mut bytes = vec![0; (chain.count() * geometry.cluster) as usize];
        let mut rest = bytes.as_mut_slice();
        for (first, count) in &chain.0 {
            let (part, behind) = rest.split_at_mut(*count as usize * geometry.cluster as usize);
            device
                .read_at(part, geometry.offset(*first))
                .map_err(Error::io("read a folder of"))?;
            rest = behind;
        }
        Ok(Self {
            path: path.to_owned(),
            chain,
            unended,
            bytes,
        })
    }

    /// The first entry behind the last one that is in use.
    fn end(&self) -> usize {
        self.bytes
            .chunks_exact(ENTRY)
            .position(|entry| entry[0] == 0)
            .unwrap_or(self.slots())
    }

    fn slots(&self) -> usize {
        self.bytes.len() / ENTRY
    }

    /// The files and folders, without `.` and `..`, and the entries that belong
    /// to none.
    pub fn records(&self) -> (Vec<Record>, Vec<usize>) {
        let mut records = Vec::new();
        let mut orphans = Vec::new();
        let mut long = Long::default();
        for (slot, entry) in self.bytes.chunks_exact(ENTRY).enumerate() {
            if entry[0] == 0 {
                break;
            }
            if entry[0] == REMOVED {
                orphans.extend(long.give_up());
                continue;
            }
            if entry[11] & READ_ONLY_TO_ARCHIVE == LONG_NAME {
                orphans.extend(long.add(slot, entry));
                continue;
            }
            let mut short = Short::default();
            short.copy_from_slice(&entry[..11]);
            let name = long.finish(&short);
            if name.is_none() {
                orphans.extend(long.give_up());
            }
            let start = long.start.take().unwrap_or(slot);
            long = Long::default();
            if entry[11] & VOLUME != 0 || entry[0] == b'.' {
                continue;
            }
            let u16_at = |at: usize| u32::from(u16::from_le_bytes([entry[at], entry[at + 1]]));
            records.push(Record {
                name: name.unwrap_or_else(|| name::text(&short, entry[12])),
                short,
                is_folder: entry[11] & FOLDER != 0,
                first: u16_at(20) << 16 | u16_at(26),
                length: u16_at(28) | u16_at(30) << 16,
                slots: start..slot + 1,
            });
        }
        orphans.extend(long.give_up());
        (records, orphans)
    }

    /// Finds what has a name.
    pub fn find(&self, name: &str) -> Option<Record> {
        self.records()
            .0
            .into_iter()
            .find(|record| record.is_called(name))
    }

    /// The entries for something new. `None` where every short name is taken.
    pub fn entries_for(
        &self,
        name: &str,
        is_folder: bool,
        first: u32,
        length: u32,
    ) -> Option<Vec<[u8; ENTRY]>> {
        let (records, _) = self.records();
        let is_taken = |short: &Short| {
            let text = name::text(short, 0);
            records
                .iter()
                .any(|record| record.short == *short || name::same(&record.name, &text))
        };
        let (short, mut entries) = match name::exact(name) {
            Some(short) => (short, Vec::new()),
            None => {
                let short = name::alias(name, is_taken)?;
                (short, name::parts(name, &short))
            }
        };
        let mut entry = [0; ENTRY];
        entry[..11].copy_from_slice(&short);
        entry[11] = if is_folder { FOLDER } else { ARCHIVE };
        for date in [16, 18, 24] {
            entry[date..date + 2].copy_from_slice(&DATE);
        }
        set_content(&mut entry, first, length);
        entries.push(entry);
        Some(entries)
    }

    /// The first two entries of a new folder.
    pub fn head(own: u32, parent: u32) -> [u8; 2 * ENTRY] {
        let mut head = [0; 2 * ENTRY];
        for (entry, (name, first)) in head
            .chunks_exact_mut(ENTRY)
            .zip([(&b".          "[..], own), (&b"..         "[..], parent)])
        {
            entry[..11].copy_from_slice(name);
            entry[11] = FOLDER;
            for date in [16, 18, 24] {
                entry[date..date + 2].copy_from_slice(&DATE);
            }
            let mut content = [0; ENTRY];
            content.copy_from_slice(entry);
            set_content(&mut content, first, 0);
            entry.copy_from_slice(&content);
        }
        head
    }

    /// Where `count` entries can be: free ones in a row, which need not be
    /// written in parts if that can be. Those in `own` count as free, where all
    /// of it can be changed by one write. `None`: the folder is full.
    pub fn room(&self, count: usize, own: Option<&Range<usize>>) -> Option<usize> {
        let end = self.end();
        let is_free = |slot: usize| slot >= end || self.bytes[slot * ENTRY] == REMOVED;
        let one = |start: usize| start / PER_WRITE == (start + count - 1) / PER_WRITE;
        let last = self.slots().checked_sub(count)?;
        if let Some(own) = own
            && own.start / PER_WRITE == (own.end - 1) / PER_WRITE
        {
            let block = own.start / PER_WRITE;
            let place = (block * PER_WRITE..=last).find(|start| {
                start / PER_WRITE == block
                    && one(*start)
                    && (*start..start + count).all(|slot| own.contains(&slot) || is_free(slot))
            });
            if place.is_some() {
                return place;
            }
        }
        let fits = |start: &usize| (*start..start + count).all(is_free);
        (0..=last)
            .filter(|start| one(*start))
            .find(fits)
            .or_else(|| (0..=last).find(fits))
    }

    /// Puts entries where there is room for them, the last one last, and then
    /// removes those of `old`. Flushes between the steps and at the end.
    pub fn put(
        &mut self,
        device: &impl BlockDevice,
        geometry: &Geometry,
        at: usize,
        entries: &[[u8; ENTRY]],
        old: Option<&Range<usize>>,
    ) -> Result<(), Error> {
        let end = self.end();
        let short = at + entries.len() - 1;
        // 1. The folder's end moves on: what was behind it must be zero before.
        let mut wanted = self.bytes.clone();
        if short >= end {
            let block_end = (end / PER_WRITE + 1) * ATOMIC;
            if let Some(behind) = wanted.get_mut(block_end..) {
                behind.fill(0);
            }
            self.bring(device, geometry, &wanted)?;
            wanted[end * ENTRY..].fill(0);
            for slot in end..at {
                wanted[slot * ENTRY] = REMOVED;
            }
        }
        for (slot, entry) in (at..).zip(entries) {
            wanted[slot * ENTRY..(slot + 1) * ENTRY].copy_from_slice(entry);
        }
        // 2. All but what makes it visible. Entries that are now removed as well
        // as written again are in one block.
        let block = block_of(short);
        let mut hidden = wanted.clone();
        hidden[block.clone()].copy_from_slice(&self.bytes[block.clone()]);
        self.bring(device, geometry, &hidden)?;
        // 3. Its short entry, and what of the old one is in the same block.
        let new = at..short + 1;
        let removed = |slot: &usize| !new.contains(slot);
        let mut visible = wanted.clone();
        for slot in old.cloned().unwrap_or_default().filter(removed) {
            wanted[slot * ENTRY] = REMOVED;
        }
        visible[block.clone()].copy_from_slice(&wanted[block]);
        self.bring(device, geometry, &visible)?;
        // 4. The old ones.
        if let Some(old) = old {
            self.remove_but(device, geometry, old, &new)?;
        }
        Ok(())
    }

    /// Removes the entries of a file, the short one first.
    pub fn remove(
        &mut self,
        device: &impl BlockDevice,
        geometry: &Geometry,
        slots: &Range<usize>,
    ) -> Result<(), Error> {
        self.remove_but(device, geometry, slots, &(0..0))
    }

    fn remove_but(
        &mut self,
        device: &impl BlockDevice,
        geometry: &Geometry,
        slots: &Range<usize>,
        but: &Range<usize>,
    ) -> Result<(), Error> {
        let mut wanted = self.bytes.clone();
        for slot in slots.clone().filter(|slot| !but.contains(slot)) {
            wanted[slot * ENTRY] = REMOVED;
        }
        let block = block_of(slots.end - 1);
        let mut gone = self.bytes.clone();
        gone[block.clone()].copy_from_slice(&wanted[block]);
        self.bring(device, geometry, &gone)?;
        self.bring(device, geometry, &wanted)
    }

    /// Removes entries that belong to no file.
    pub fn clear(
        &mut self,
        device: &impl BlockDevice,
        geometry: &Geometry,
        slots: &[usize],
    ) -> Result<(), Error> {
        let mut wanted = self.bytes.clone();
        for slot in slots {
            wanted[slot * ENTRY] = REMOVED;
        }
        self.bring(device, geometry, &wanted)
    }

    /// Gives a file another content, by one write.
    pub fn set_content(
        &mut self,
        device: &impl BlockDevice,
        geometry: &Geometry,
        slot: usize,
        first: u32,
        length: u32,
    ) -> Result<(), Error> {
        let mut wanted = self.bytes.clone();
        let mut entry = [0; ENTRY];
        entry.copy_from_slice(&wanted[slot * ENTRY..(slot + 1) * ENTRY]);
        set_content(&mut entry, first, length);
        wanted[slot * ENTRY..(slot + 1) * ENTRY].copy_from_slice(&entry);
        self.bring(device, geometry, &wanted)
    }

    /// Writes what differs from `wanted`, and flushes if anything did.
    fn bring(
        &mut self,
        device: &impl BlockDevice,
        geometry: &Geometry,
        wanted: &[u8],
    ) -> Result<(), Error> {
        let mut changed = false;
        for (number, (new, old)) in wanted
            .chunks(ATOMIC)
            .zip(self.bytes.chunks_mut(ATOMIC))
            .enumerate()
        {
            if new == old {
                continue;
            }
            let Some((place, _)) = self.chain.locate(geometry, (number * ATOMIC) as u64) else {
                continue;
            };
            device
                .write_at(new, place)
                .map_err(Error::io("write a folder of"))?;
            old.copy_from_slice(new);
            changed = true;
        }
        if changed {
            flush(device)?;
        }
        Ok(())
    }

    /// Takes a further cluster, which is zero and linked already.
    pub fn extended(&mut self, geometry: &Geometry, cluster: u32) {
        self.chain.push(cluster);
        self.bytes
            .resize(self.bytes.len() + geometry.cluster as usize, 0);
    }

    /// Whether it may have one more cluster.
    pub fn can_grow(&self, geometry: &Geometry) -> bool {
        self.bytes.len() as u64 + geometry.cluster <= MAX
    }
}

/// Waits until all is on the medium.
pub fn flush(device: &impl BlockDevice) -> Result<(), Error> {
    device.flush().map_err(Error::io("write"))
}

/// The bytes that are written with an entry.
fn block_of(slot: usize) -> Range<usize> {
    let start = slot / PER_WRITE * ATOMIC;
    start..start + ATOMIC
}

fn set_content(entry: &mut [u8; ENTRY], first: u32, length: u32) {
    let bytes = first.to_le_bytes();
    entry[20..22].copy_from_slice(&bytes[2..]);
    entry[26..28].copy_from_slice(&bytes[..2]);
    entry[28..].copy_from_slice(&length.to_le_bytes());
}

/// A long name as its parts come, the last one first.
#[derive(Default)]
struct Long {
    start: Option<usize>,
    end: usize,
    sum: u8,
    /// The number of the part that came last.
    number: u8,
    units: Vec<u16>,
}

impl Long {
    /// Takes a part; returns the entries of parts that it makes useless.
    fn add(&mut self, slot: usize, entry: &[u8]) -> Range<usize> {
        let number = entry[0] & 0x3f;
        let is_first = entry[0] & 0x40 != 0;
        let follows =
            self.start.is_some() && !is_first && number + 1 == self.number && entry[13] == self.sum;
        let mut given_up = 0..0;
        if !follows {
            given_up = self.give_up();
            if !is_first || !(1..=20).contains(&number) {
                // A range of one that does not adjoin is told by the next call:
                // it stays as a set that no short name can match.
                *self = Self {
                    start: Some(slot),
                    end: slot + 1,
                    number: u8::MAX,
                    ..Self::default()
                };
                return given_up;
            }
            self.start = Some(slot);
            self.sum = entry[13];
        }
        self.number = number;
        self.end = slot + 1;
        let mut units: Vec<u16> = name::PLACES
            .iter()
            .map(|at| u16::from_le_bytes([entry[*at], entry[at + 1]]))
            .collect();
        units.append(&mut self.units);
        self.units = units;
        given_up
    }

    /// The name, where all parts are there and belong to this short one.
    fn finish(&mut self, short: &Short) -> Option<String> {
        self.start?;
        if self.number != 1 || self.sum != name::checksum(short) {
            return None;
        }
        let end = self.units.iter().position(|unit| *unit == 0);
        self.units.truncate(end.unwrap_or(self.units.len()));
        Some(String::from_utf16_lossy(&self.units))
    }

    /// Forgets the parts, and says where they were.
    fn give_up(&mut self) -> Range<usize> {
        let slots = self.start.take().map_or(0..0, |start| start..self.end);
        *self = Self::default();
        slots
    }
}
