//! The partition table as it should be: the state partition up to the end of
//! the space behind it. Pure.

use layout::partition::{LINUX_GENERIC, STATE, STATE_UNFINISHED};
use partition_table::{Entry, Table};

/// Partitions begin and end at multiples of this many bytes: more than the
/// erase block of nearly all flash, and what other tools do.
const ALIGNMENT: u64 = 1 << 20;
/// A new state partition has at least this many bytes: room for the journal, a
/// day's log and the configuration.
const SMALLEST: u64 = 32 << 20;

/// Why a table cannot be corrected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The partition is called `state` but is of another type.
    Type {
        /// Its number.
        number: u32,
    },
    /// Two partitions are called `state`.
    Ambiguous,
    /// There is no unused entry, or no unused stretch of [`SMALLEST`] bytes.
    NoRoom,
    /// A partition reaches into where the back-up of the table belongs: the
    /// disk is smaller than the one that the table was made for.
    Shrunk,
}

/// The state partition in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StatePartition {
    /// Its number, from 1.
    pub number: u32,
    /// Its first byte.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Whether its file system was being made when the power went.
    pub unfinished: bool,
}

/// Finds the state partition.
///
/// # Errors
/// [`Obstacle::Type`] or [`Obstacle::Ambiguous`].
pub fn find(table: &Table) -> Result<Option<StatePartition>, Obstacle> {
    let mut found = None;
    for (index, entry) in table.entries.iter().enumerate() {
        let name = entry.name();
        if !entry.is_used() || (name != STATE && name != STATE_UNFINISHED) {
            continue;
        }
        let number = index as u32 + 1;
        if entry.kind() != LINUX_GENERIC {
            return Err(Obstacle::Type { number });
        }
        if found.is_some() {
            return Err(Obstacle::Ambiguous);
        }
        found = Some(StatePartition {
            number,
            start: entry.first() * table.sector_size,
            length: (entry.last() + 1 - entry.first()) * table.sector_size,
            unfinished: name == STATE_UNFINISHED,
        });
    }
    Ok(found)
}

/// The table for a disk of `sectors` sectors, which may have grown.
///
/// # Errors
/// [`Obstacle::Shrunk`].
pub fn fitted(table: &Table, sectors: u64) -> Result<Table, Obstacle> {
    let mut fitted = table.clone();
    // The back-up's array and header come last.
    fitted.last_usable = sectors
        .checked_sub(2 + table.array_sectors())
        .filter(|last_usable| used(table).all(|(_, last)| last <= *last_usable))
        .ok_or(Obstacle::Shrunk)?;
    Ok(fitted)
}

/// Moves the end of a partition to the end of the space behind it. It never
/// moves backwards.
pub fn grow(table: &mut Table, number: u32) {
    let index = number as usize - 1;
    let aligned = ALIGNMENT / table.sector_size;
    let first = table.entries[index].first();
    let limit = used(table)
        .map(|(first, _)| first)
        .filter(|next| *next > first)
        .min()
        .unwrap_or(table.last_usable + 1)
        .min(table.last_usable + 1);
    let end = limit / aligned * aligned;
    let entry = &mut table.entries[index];
    if end > entry.last() + 1 {
        entry.set_last(end - 1);
    }
}

/// Adds the state partition, unfinished, in the largest unused stretch.
///
/// # Errors
/// [`Obstacle::NoRoom`].
pub fn add(table: &mut Table, unique: [u8; 16]) -> Result<u32, Obstacle> {
    let aligned = ALIGNMENT / table.sector_size;
    let mut taken: Vec<(u64, u64)> = used(table).collect();
    taken.sort_unstable();
    taken.push((table.last_usable + 1, table.last_usable + 1));
    let mut free_from = table.first_usable;
    let mut best: Option<(u64, u64)> = None;
    for (first, last) in taken {
        let start = free_from.next_multiple_of(aligned);
        let end = first / aligned * aligned;
        if end > start && best.is_none_or(|(from, to)| end - start > to - from) {
            best = Some((start, end));
        }
        free_from = free_from.max(last + 1);
    }
    let (start, end) = best
        .filter(|(start, end)| (end - start) * table.sector_size >= SMALLEST)
        .ok_or(Obstacle::NoRoom)?;
    let index = table
        .entries
        .iter()
        .position(|entry| !entry.is_used())
        .ok_or(Obstacle::NoRoom)?;
    table.entries[index] = Entry::new(LINUX_GENERIC, unique, start, end - 1, STATE_UNFINISHED);
    Ok(index as u32 + 1)
}

/// Gives a partition a name.
pub fn rename(table: &mut Table, number: u32, name: &str) {
    table.entries[number as usize - 1].set_name(name);
}

fn used(table: &Table) -> impl Iterator<Item = (u64, u64)> {
    table
        .entries
        .iter()
        .filter(|entry| entry.is_used())
        .map(|entry| (entry.first(), entry.last()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 2048;

    /// A table for a disk of 1024 MiB with partitions of (first, last) MiB.
    fn table(partitions: &[(&str, u64, u64)]) -> Table {
        let mut table = Table {
            sector_size: 512,
            disk_guid: [7; 16],
            first_usable: MIB,
            last_usable: 1024 * MIB - 34,
            entries: vec![Entry::UNUSED; 128],
        };
        for (index, (name, first, end)) in partitions.iter().enumerate() {
            let unique = [index as u8; 16];
            table.entries[index] =
                Entry::new(LINUX_GENERIC, unique, first * MIB, end * MIB - 1, name);
        }
        table
    }

    #[test]
    fn the_partition_grows_to_the_last_aligned_sector() {
        let mut table = table(&[("esp", 1, 129), ("state", 129, 193)]);
        grow(&mut table, 2);
        assert_eq!(table.entries[1].last(), 1023 * MIB - 1);
        let whole = table.clone();
        grow(&mut table, 2);
        assert_eq!(table, whole);
    }

    #[test]
    fn the_partition_grows_no_further_than_to_the_next_one() {
        let mut table = table(&[("state", 129, 193), ("data", 300, 400), ("esp", 1, 129)]);
        grow(&mut table, 1);
        assert_eq!(table.entries[0].last(), 300 * MIB - 1);
    }

    #[test]
    fn a_partition_that_ends_behind_the_last_aligned_sector_stays() {
        let mut table = table(&[("state", 129, 193)]);
        let end = table.last_usable;
        table.entries[0].set_last(end);
        grow(&mut table, 1);
        assert_eq!(table.entries[0].last(), end);
    }

    #[test]
    fn a_missing_partition_takes_the_largest_free_stretch() {
        let mut table = table(&[("esp", 1, 129), ("data", 200, 900)]);
        assert_eq!(add(&mut table, [9; 16]), Ok(3));
        let place = find(&table).unwrap().unwrap();
        assert_eq!(
            place,
            StatePartition {
                number: 3,
                start: 900 << 20,
                length: 123 << 20,
                unfinished: true,
            }
        );
        rename(&mut table, 3, STATE);
        assert!(!find(&table).unwrap().unwrap().unfinished);
    }

    #[test]
    fn a_stretch_too_small_is_not_used() {
        let mut table = table(&[("esp", 1, 129), ("data", 140, 1000)]);
        assert_eq!(add(&mut table, [9; 16]), Err(Obstacle::NoRoom));
    }

    #[test]
    fn a_partition_of_another_type_is_not_the_states() {
        let mut disk = table(&[("state", 1, 129)]);
        assert_eq!(find(&table(&[("esp", 1, 129)])), Ok(None));
        disk.entries[0] = Entry::new([1; 16], [1; 16], MIB, 2 * MIB, "state");
        assert_eq!(find(&disk), Err(Obstacle::Type { number: 1 }));
        let two = table(&[("state", 1, 129), ("state-new", 129, 200)]);
        assert_eq!(find(&two), Err(Obstacle::Ambiguous));
    }

    #[test]
    fn a_grown_disk_has_its_last_usable_sector_further_back() {
        let table = table(&[("esp", 1, 129)]);
        let fitted_to = |mib| fitted(&table, mib * MIB).map(|table| table.last_usable);
        assert_eq!(fitted_to(4096), Ok(4096 * MIB - 34));
        assert_eq!(fitted_to(129), Err(Obstacle::Shrunk));
    }
}
