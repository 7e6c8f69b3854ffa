//! Repairs what a power cut has left.

use block_device::BlockDevice;

use crate::check::{self, Findings};
use crate::directory::{Directory, flush};
use crate::table::{Chain, END};
use crate::{ATOMIC, Error, FileSystem};

/// The note about free clusters (FAT specification, section 5).
pub(crate) mod info {
    pub const MARKS: [(usize, [u8; 4]); 3] =
        [(0, *b"RRaA"), (484, *b"rrAa"), (508, [0, 0, 0x55, 0xaa])];
    pub const FREE: usize = 488;
    pub const NEXT: usize = 492;
    pub const UNKNOWN: u32 = u32::MAX;
}

impl<D: BlockDevice> FileSystem<D> {
    /// Repairs what [`FileSystem::findings`] names, [`Findings::damaged`]
    /// excepted. Without findings it writes nothing. Each change calls it first.
    ///
    /// # Errors
    /// The device failed.
    pub fn repair(&self) -> Result<(), Error> {
        let (findings, chores, lost) = {
            let state = self.state.borrow();
            (
                state.findings.clone(),
                state.chores.clone(),
                state.lost.clone(),
            )
        };
        let reclaims = findings.damaged.is_empty() && lost.count() > 0;
        let has_work =
            findings.tables_differ || !chores.is_empty() || findings.wrong_count || reclaims;
        if !has_work {
            return Ok(());
        }
        for chore in &chores {
            if let Some(last) = chore.unended {
                self.tables.set(&self.device, [(last, END)])?;
                flush(&self.device)?;
            }
            let mut folder = Directory::load(
                &self.device,
                &self.geometry,
                &self.tables,
                chore.first,
                &chore.path,
            )?;
            for twin in &chore.twins {
                folder.remove(&self.device, &self.geometry, &twin.slots)?;
            }
            folder.clear(&self.device, &self.geometry, &chore.leftovers)?;
        }
        if findings.tables_differ {
            for number in 0..self.tables.windows() {
                let window = self.tables.window(&self.device, 0, number)?;
                let copy = self.tables.window(&self.device, 1, number)?;
                if let (Some(window), Some(copy)) = (window, copy)
                    && check::differ(number, &window, &copy)
                {
                    self.tables.mirror(&self.device, number, &window)?;
                }
            }
            flush(&self.device)?;
        }
        if reclaims {
            self.tables
                .set(&self.device, lost.clusters().map(|cluster| (cluster, 0)))?;
            self.give_back(&lost);
        }
        self.note()?;
        flush(&self.device)?;
        let mut state = self.state.borrow_mut();
        state.chores.clear();
        if reclaims {
            state.lost = Chain::default();
        }
        state.findings = Findings {
            damaged: findings.damaged,
            lost_clusters: state.lost.count(),
            ..Findings::default()
        };
        Ok(())
    }

    /// Writes the note about free clusters.
    pub(crate) fn note(&self) -> Result<(), Error> {
        let Some(place) = self.geometry.info else {
            return Ok(());
        };
        let mut sector = [0; ATOMIC];
        self.device
            .read_at(&mut sector, place)
            .map_err(Error::io("read"))?;
        let state = self.state.borrow();
        for (at, value) in [(info::FREE, state.free as u32), (info::NEXT, state.hint)] {
            sector[at..at + 4].copy_from_slice(&value.to_le_bytes());
        }
        self.device
            .write_at(&sector, place)
            .map_err(Error::io("write"))
    }
}
