//! The file allocation table (FAT specification, section 4).

use std::cell::RefCell;

use block_device::BlockDevice;

use crate::Error;
use crate::boot_sector::Geometry;

/// The bits of an entry that count; the others are kept.
pub const MASK: u32 = 0x0fff_ffff;
/// The end of a chain, as it is written.
pub const END: u32 = MASK;
/// A cluster that must not be used.
pub const BAD: u32 = 0x0fff_fff7;

/// What is read of a table at once.
pub const WINDOW: usize = 16 * 1024;

/// What an entry says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// The cluster is free.
    Free,
    /// Another cluster follows.
    Next(u32),
    /// It is the last one of its chain.
    End,
    /// It is bad, or the entry is invalid.
    Bad,
}

impl Link {
    fn of(value: u32, geometry: &Geometry) -> Self {
        match value & MASK {
            0 => Self::Free,
            0x0fff_fff8.. => Self::End,
            next if geometry.has(next) => Self::Next(next),
            _ => Self::Bad,
        }
    }
}

/// The first table, which all systems read, and its copy.
#[derive(Debug)]
pub struct Tables {
    geometry: Geometry,
    /// The last window that was read of the first table, and its number.
    window: RefCell<Option<(u64, Vec<u8>)>>,
}

impl Tables {
    pub fn new(geometry: Geometry) -> Self {
        Self {
            geometry,
            window: RefCell::default(),
        }
    }

    fn length(&self) -> u64 {
        (u64::from(self.geometry.clusters) + 2) * 4
    }

    /// How many windows there are.
    pub fn windows(&self) -> u64 {
        self.length().div_ceil(WINDOW as u64)
    }

    /// A window of a table; `None` where there is no such table.
    pub fn window(
        &self,
        device: &impl BlockDevice,
        table: usize,
        number: u64,
    ) -> Result<Option<Vec<u8>>, Error> {
        let Some(start) = self.geometry.tables[table] else {
            return Ok(None);
        };
        let at = number * WINDOW as u64;
        let length = (self.length() - at).min(WINDOW as u64);
        let mut bytes = vec![0; length as usize];
        device
            .read_at(&mut bytes, start + at)
            .map_err(Error::io("read the allocation table of"))?;
        Ok(Some(bytes))
    }

    /// Writes a window's bytes to the copy of the table.
    pub fn mirror(
        &self,
        device: &impl BlockDevice,
        number: u64,
        bytes: &[u8],
    ) -> Result<(), Error> {
        match self.geometry.tables[1] {
            Some(start) => device
                .write_at(bytes, start + number * WINDOW as u64)
                .map_err(Error::io("write the allocation table of")),
            None => Ok(()),
        }
    }

    /// What follows a cluster.
    pub fn link(&self, device: &impl BlockDevice, cluster: u32) -> Result<Link, Error> {
        let at = u64::from(cluster) * 4;
        let number = at / WINDOW as u64;
        let mut cached = self.window.borrow_mut();
        if cached.as_ref().is_none_or(|(cached, _)| *cached != number) {
            *cached = self.window(device, 0, number)?.map(|bytes| (number, bytes));
        }
        let value = cached.as_ref().map_or(BAD, |(_, bytes)| {
            entry(bytes, (at % WINDOW as u64) as usize)
        });
        Ok(Link::of(value, &self.geometry))
    }

    /// Writes entries into both tables. `changes` are (cluster, value); fewest
    /// writes come of ascending ones.
    pub fn set(
        &self,
        device: &impl BlockDevice,
        changes: impl IntoIterator<Item = (u32, u32)>,
    ) -> Result<(), Error> {
        self.window.replace(None);
        let mut sector: Option<(u64, Vec<u8>)> = None;
        for (cluster, value) in changes {
            let at = u64::from(cluster) * 4;
            let start = at - at % crate::ATOMIC as u64;
            if sector.as_ref().is_none_or(|(known, _)| *known != start) {
                if let Some((start, bytes)) = sector.take() {
                    self.put(device, start, &bytes)?;
                }
                let mut bytes = vec![0; crate::ATOMIC];
                let table = self.geometry.tables[0].unwrap_or_default();
                device
                    .read_at(&mut bytes, table + start)
                    .map_err(Error::io("read the allocation table of"))?;
                sector = Some((start, bytes));
            }
            if let Some((start, bytes)) = &mut sector {
                let place = (at - *start) as usize;
                let kept = entry(bytes, place) & !MASK;
                bytes[place..place + 4].copy_from_slice(&(kept | value & MASK).to_le_bytes());
            }
        }
        if let Some((start, bytes)) = sector {
            self.put(device, start, &bytes)?;
        }
        Ok(())
    }

    fn put(&self, device: &impl BlockDevice, at: u64, bytes: &[u8]) -> Result<(), Error> {
        for table in self.geometry.tables.into_iter().flatten() {
            device
                .write_at(bytes, table + at)
                .map_err(Error::io("write the allocation table of"))?;
        }
        Ok(())
    }
}

/// The entry at a byte of a table.
pub fn entry(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

/// The clusters of a chain as stretches (first, how many).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain(pub Vec<(u32, u32)>);

impl Chain {
    /// Adds a cluster at the end.
    pub fn push(&mut self, cluster: u32) {
        match self.0.last_mut() {
            Some((first, count)) if *first + *count == cluster => *count += 1,
            _ => self.0.push((cluster, 1)),
        }
    }

    /// Its first cluster.
    pub fn first(&self) -> Option<u32> {
        self.0.first().map(|(first, _)| *first)
    }

    /// Its last cluster.
    pub fn last(&self) -> Option<u32> {
        self.0.last().map(|(first, count)| first + count - 1)
    }

    /// How many clusters it has.
    pub fn count(&self) -> u64 {
        self.0.iter().map(|(_, count)| u64::from(*count)).sum()
    }

    /// Its clusters in order.
    pub fn clusters(&self) -> impl Iterator<Item = u32> {
        self.0
            .iter()
            .flat_map(|(first, count)| *first..*first + *count)
    }

    /// Its entries in the table, each pointing to the next.
    pub fn entries(&self) -> impl Iterator<Item = (u32, u32)> {
        let next = self.clusters().skip(1).chain([END]);
        self.clusters().zip(next)
    }

    /// Where bytes of the chain from `offset` on are: the place on the device,
    /// and how many lie there in one piece. `None` behind its end.
    pub fn locate(&self, geometry: &Geometry, offset: u64) -> Option<(u64, u64)> {
        let mut rest = offset;
        for (first, count) in &self.0 {
            let length = u64::from(*count) * geometry.cluster;
            if rest < length {
                return Some((geometry.offset(*first) + rest, length - rest));
            }
            rest -= length;
        }
        None
    }
}

/// One bit for each cluster.
#[derive(Clone, Debug)]
pub struct Bits(Vec<u64>);

impl Bits {
    pub fn new(clusters: u32) -> Self {
        Self(vec![0; (clusters as usize + 2).div_ceil(64)])
    }

    pub fn has(&self, cluster: u32) -> bool {
        self.0[cluster as usize / 64] >> (cluster % 64) & 1 == 1
    }

    pub fn add(&mut self, cluster: u32) {
        self.0[cluster as usize / 64] |= 1 << (cluster % 64);
    }

    pub fn take(&mut self, cluster: u32) {
        self.0[cluster as usize / 64] &= !(1 << (cluster % 64));
    }
}

impl Tables {
    /// Follows a chain from its first cluster to its end; with what is wrong
    /// where it has none within `limit` clusters.
    pub fn chain(
        &self,
        device: &impl BlockDevice,
        first: u32,
        limit: u64,
    ) -> Result<(Chain, Option<&'static str>), Error> {
        let mut chain = Chain::default();
        if !self.geometry.has(first) {
            return Ok((chain, Some("its first cluster does not exist")));
        }
        let mut cluster = first;
        let mut count = 0;
        loop {
            if count == limit {
                return Ok((chain, Some("its chain of clusters is too long, or a loop")));
            }
            chain.push(cluster);
            count += 1;
            match self.link(device, cluster)? {
                Link::Next(next) => cluster = next,
                Link::End => return Ok((chain, None)),
                Link::Free | Link::Bad => {
                    return Ok((chain, Some("its chain of clusters is broken")));
                }
            }
        }
    }

    /// The chain of a folder. Where it leads to a cluster that is free, somebody
    /// was about to make the folder longer, without an order that survives a power
    /// cut, as firmware does: then it is the chain up to there, with the cluster
    /// that is to be its last one.
    pub fn folder_chain(
        &self,
        device: &impl BlockDevice,
        first: u32,
        limit: u64,
    ) -> Result<(Chain, Result<Option<u32>, &'static str>), Error> {
        let (chain, wrong) = self.chain(device, first, limit)?;
        let Some(wrong) = wrong else {
            return Ok((chain, Ok(None)));
        };
        let clusters: Vec<u32> = chain.clusters().collect();
        if let [whole @ .., added] = clusters.as_slice()
            && let Some(last) = whole.last()
            && self.link(device, *added)? == Link::Free
        {
            let mut shorter = Chain::default();
            whole.iter().for_each(|cluster| shorter.push(*cluster));
            return Ok((shorter, Ok(Some(*last))));
        }
        Ok((chain, Err(wrong)))
    }
}
