//! Writes a partition table to the disk so that a power cut at any moment
//! leaves a valid one.
//!
//! [`steps`] is pure: the sectors to write and the barriers between them. What
//! is written before a barrier is on the disk before anything behind it is;
//! writes without a barrier between them may reach it in any order, or in part.
//! The only requirement on the disk is that it writes a single sector
//! completely or not at all. The order:
//!
//! 1. The backup, at the end of the disk. All this time the primary is valid.
//!    (If only the backup was left, the primary is written first, unchanged.)
//! 2. The primary. Linux reads the backup only if the kernel's command line
//!    says `gpt`, and firmware cannot be relied on, so the primary should
//!    itself be valid at every moment. Its array is many sectors, its header
//!    one: the new array is written to a spare place between the table and the
//!    first partition, the header is pointed there, then the array is written
//!    to its proper place, and the header is pointed back. If there is no such
//!    place, the array is overwritten, and the backup is valid until the header
//!    follows.
//! 3. The disk's size in the protective MBR.

use std::io;

use block_device::BlockDevice;

use crate::gpt::{self, Copy, Found, HeaderPlace, PRIMARY, PRIMARY_ARRAY, Sectors, Table};

/// One step towards the new table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Write whole sectors.
    Write {
        /// The first of them.
        sector: u64,
        /// Their new content.
        bytes: Vec<u8>,
    },
    /// Wait until all of it is on the disk.
    Barrier,
}

/// What the disk contains besides the copies of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Surroundings {
    /// The disk's size in sectors.
    pub sectors: u64,
    /// The first sector: the protective MBR.
    pub mbr: Vec<u8>,
    /// Where the primary's array belongs.
    pub home: u64,
    /// Where the array can be put temporarily.
    pub spare: Option<u64>,
}

/// Writes `table`, unless the disk has it already. Returns whether anything was
/// written.
///
/// # Errors
/// The disk could not be read or written.
pub fn rewrite<D: BlockDevice>(disk: &Sectors<D>, table: &Table) -> io::Result<bool> {
    let found = gpt::read(disk)?;
    let home = find_home(disk, &found)?;
    let surroundings = Surroundings {
        sectors: disk.count(),
        mbr: disk.read(0, 1)?,
        home,
        spare: find_spare(disk, table, home)?,
    };
    let steps = steps(&found, &surroundings, table);
    for step in &steps {
        match step {
            Step::Write { sector, bytes } => disk.write(*sector, bytes)?,
            Step::Barrier => disk.device.flush()?,
        }
    }
    Ok(!steps.is_empty())
}

/// Where the primary's array belongs: sector 2, or wherever someone has moved
/// it to make room for a boot loader there. An interrupted move of ours is
/// recognised by the array that is still at sector 2, equal except for one
/// entry.
fn find_home<D: BlockDevice>(disk: &Sectors<D>, found: &Found) -> io::Result<u64> {
    let Some(primary) = &found.primary else {
        return Ok(PRIMARY_ARRAY);
    };
    if primary.place.array == PRIMARY_ARRAY {
        return Ok(PRIMARY_ARRAY);
    }
    let there = disk.read(PRIMARY_ARRAY, primary.table.array_sectors())?;
    Ok(if is_copy(&there, &primary.table) {
        PRIMARY_ARRAY
    } else {
        primary.place.array
    })
}

/// Whether `bytes` are zero or an array of this table, complete or partial, as
/// it is now or was before: the same partitions in the same places.
fn is_copy(bytes: &[u8], table: &Table) -> bool {
    gpt::entries(bytes)
        .zip(&table.entries)
        .all(|(there, entry)| there.is_blank() || there.is_same_partition(entry))
}

/// An unused range for the array before the first partition. It must be all
/// zero, because boot loaders of some boards are there, except for what an
/// interrupted run of ours has left.
fn find_spare<D: BlockDevice>(
    disk: &Sectors<D>,
    table: &Table,
    home: u64,
) -> io::Result<Option<u64>> {
    let length = table.array_sectors();
    let first_partition = table
        .entries
        .iter()
        .filter(|entry| entry.is_used())
        .map(|entry| entry.first())
        .min()
        .unwrap_or(table.first_usable);
    let end = first_partition.min(table.first_usable).min(disk.count());
    let mut at = PRIMARY_ARRAY + length;
    while at + length <= end {
        let apart = at + length <= home || home + length <= at;
        if apart && is_copy(&disk.read(at, length)?, table) {
            return Ok(Some(at));
        }
        at += length;
    }
    Ok(None)
}

/// The steps from the current state to `table`; empty if there is nothing to
/// do.
pub fn steps(found: &Found, surroundings: &Surroundings, table: &Table) -> Vec<Step> {
    let last = surroundings.sectors - 1;
    let primary_at = |array| HeaderPlace {
        own: PRIMARY,
        other: last,
        array,
    };
    let backup_at = HeaderPlace {
        own: last,
        other: PRIMARY,
        array: last - table.array_sectors(),
    };
    let home = primary_at(surroundings.home);
    let mut plan = Plan::default();
    let mut primary = found.primary.clone();
    if primary.is_none()
        && let Some(backup) = &found.backup
    {
        plan.write(home.array, backup.table.array());
        plan.barrier();
        plan.write(home.own, backup.table.header(home));
        plan.barrier();
        primary = Some(Copy {
            table: backup.table.clone(),
            place: home,
        });
    }
    if !is(&found.backup, table, backup_at) {
        plan.write(backup_at.array, table.array());
        plan.write(backup_at.own, table.header(backup_at));
        plan.barrier();
    }
    if !is(&primary, table, home) {
        let at_home = primary
            .as_ref()
            .is_none_or(|copy| copy.place.array == home.array);
        let same_array = primary
            .as_ref()
            .is_some_and(|copy| copy.table.entries == table.entries);
        let mut borrowed = None;
        if !at_home {
            // An interrupted run has left it elsewhere: only the way back
            // remains.
            borrowed = primary.as_ref().map(|copy| copy.place.array);
        } else if !same_array && let Some(spare) = surroundings.spare {
            plan.write(spare, table.array());
            plan.barrier();
            plan.write(PRIMARY, table.header(primary_at(spare)));
            plan.barrier();
            borrowed = Some(spare);
        }
        if !(at_home && same_array) {
            plan.write(home.array, table.array());
            plan.barrier();
        }
        plan.write(PRIMARY, table.header(home));
        plan.barrier();
        // The spare place is left as it was found, so that the next time finds
        // it again.
        if let Some(spare) = borrowed {
            plan.write(spare, vec![0; table.array().len()]);
            plan.barrier();
        }
    }
    if let Some(mbr) = fitted_mbr(&surroundings.mbr, last) {
        plan.write(0, mbr);
        plan.barrier();
    }
    plan.0
}

#[derive(Default)]
struct Plan(Vec<Step>);

impl Plan {
    fn write(&mut self, sector: u64, bytes: Vec<u8>) {
        self.0.push(Step::Write { sector, bytes });
    }

    fn barrier(&mut self) {
        self.0.push(Step::Barrier);
    }
}

fn is(copy: &Option<Copy>, table: &Table, place: HeaderPlace) -> bool {
    copy.as_ref()
        .is_some_and(|copy| copy.place == place && copy.table == *table)
}

/// The MBR with its protective partition (type 0xEE, the first entry, at byte
/// 446) reaching to the sector `last`; `None` if it does already or there is
/// none.
fn fitted_mbr(mbr: &[u8], last: u64) -> Option<Vec<u8>> {
    const KIND: usize = 446 + 4;
    const LENGTH: std::ops::Range<usize> = 446 + 12..446 + 16;
    let length = u32::try_from(last).unwrap_or(u32::MAX).to_le_bytes();
    if mbr[510..512] != [0x55, 0xaa] || mbr[KIND] != 0xee || mbr[LENGTH] == length {
        return None;
    }
    let mut fitted = mbr.to_vec();
    fitted[LENGTH].copy_from_slice(&length);
    Some(fitted)
}
