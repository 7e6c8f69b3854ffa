//! The partition table as firmware and kernel read it.

use super::medium::{Medium, SECTOR};
use gpt::GptConfig;
use gpt::disk::LogicalBlockSize;
use gpt::header::Header;
use gpt::partition::{self, Partition};
use std::collections::BTreeMap;
use std::ops::Range;

const SECTORS: LogicalBlockSize = LogicalBlockSize::Lb512;
/// Bytes of a partition's entry; the `gpt` crate knows no other.
const ENTRY: u32 = 128;

/// The partitions by number: of the primary table where it and its entries are
/// whole, else of the back-up (Linux reads it because of `gpt` on its command
/// line, OVMF in any case).
pub fn partitions(medium: &Medium) -> Result<BTreeMap<u32, Partition>, String> {
    let length = medium.bytes().len() as u64;
    let reader = medium.reader(0..length).unwrap_or_else(|| unreachable!());
    let disk = GptConfig::new()
        .logical_block_size(SECTORS)
        .open_from_device(reader.clone())
        .map_err(|error| format!("no partition table: {error}"))?;
    for header in [disk.primary_header(), disk.backup_header()] {
        if let Ok(header) = header
            && entries_are_whole(medium, header)
        {
            return partition::file_read_partitions(&mut reader.clone(), header, SECTORS)
                .map_err(|error| format!("the partition table: {error}"));
        }
    }
    Err("neither partition table has the entries that its header tells".to_owned())
}

/// The crate checks the header's checksum, but not that of the entries.
fn entries_are_whole(medium: &Medium, header: &Header) -> bool {
    let start = header.part_start * SECTOR as u64;
    let end = start + u64::from(header.num_parts) * u64::from(ENTRY);
    header.part_size == ENTRY
        && medium
            .part(start..end)
            .is_some_and(|entries| crc32fast::hash(entries) == header.crc32_parts)
}

/// Where a partition is, in bytes.
pub fn range(partition: &Partition) -> Range<u64> {
    let sector = SECTOR as u64;
    partition.first_lba * sector..(partition.last_lba + 1) * sector
}
