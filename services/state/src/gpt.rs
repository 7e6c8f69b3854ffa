//! The partition table on a disk (UEFI specification, chapter 5).
//!
//! Written here, not taken from a library, for one property: a table is only
//! taken for valid when the checksum of its array of entries is right too, and
//! what is to be written is a list of sectors in our order ([`crate::rewrite`]),
//! not a call. A copy torn by a power cut is thereby known as torn. Only the
//! entry of the state partition is ever changed; all other bytes of the table
//! are kept as they are.

use std::fmt;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use crc::{CRC_32_ISO_HDLC, Crc};

const CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
/// Bytes of the header that the specification defines.
const HEADER: usize = 92;
/// Bytes of an entry. The specification allows more, Linux does not.
const ENTRY: usize = 128;
/// More entries than any tool writes; a bound for what is read.
const MAX_ENTRIES: u32 = 1024;
/// Where the primary header lies.
pub const PRIMARY: u64 = 1;
/// Where the primary's array lies.
pub const PRIMARY_ARRAY: u64 = 2;

/// The type "Linux file system data", as it is on the disk:
/// 0FC63DAF-8483-4772-8E79-3D69D8477DE4.
pub const LINUX_GENERIC: [u8; 16] = [
    0xaf, 0x3d, 0xc6, 0x0f, 0x83, 0x84, 0x72, 0x47, 0x8e, 0x79, 0x3d, 0x69, 0xd8, 0x47, 0x7d, 0xe4,
];

/// An entry: one partition, or an unused place.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry([u8; ENTRY]);

impl Entry {
    /// A place of the array that no partition has.
    #[cfg(test)]
    pub const UNUSED: Self = Self([0; ENTRY]);

    /// A new partition on the given sectors, both included.
    pub fn new(kind: [u8; 16], unique: [u8; 16], first: u64, last: u64, name: &str) -> Self {
        let mut entry = Self([0; ENTRY]);
        entry.0[..16].copy_from_slice(&kind);
        entry.0[16..32].copy_from_slice(&unique);
        entry.0[32..40].copy_from_slice(&first.to_le_bytes());
        entry.set_last(last);
        entry.set_name(name);
        entry
    }

    /// Whether it is a partition.
    pub fn is_used(&self) -> bool {
        self.kind() != [0; 16]
    }

    /// Whether there is nothing in its place.
    pub fn is_blank(&self) -> bool {
        self.0 == [0; ENTRY]
    }

    /// Whether both are one partition, which may have another end or name.
    pub fn is_same_partition(&self, other: &Self) -> bool {
        // Type, unique id and first sector.
        self.0[..40] == other.0[..40]
    }

    /// Its type.
    pub fn kind(&self) -> &[u8] {
        &self.0[..16]
    }

    /// Its first sector.
    pub fn first(&self) -> u64 {
        u64_at(&self.0, 32)
    }

    /// Its last sector.
    pub fn last(&self) -> u64 {
        u64_at(&self.0, 40)
    }

    /// Moves its end.
    pub fn set_last(&mut self, last: u64) {
        self.0[40..48].copy_from_slice(&last.to_le_bytes());
    }

    /// Its name.
    pub fn name(&self) -> String {
        let units = self.0[56..]
            .chunks_exact(2)
            .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
            .take_while(|unit| *unit != 0);
        char::decode_utf16(units)
            .map(|character| character.unwrap_or(char::REPLACEMENT_CHARACTER))
            .collect()
    }

    /// Renames it. At most 36 UTF-16 units are kept.
    pub fn set_name(&mut self, name: &str) {
        self.0[56..].fill(0);
        for (place, unit) in self.0[56..].chunks_exact_mut(2).zip(name.encode_utf16()) {
            place.copy_from_slice(&unit.to_le_bytes());
        }
    }
}

impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}..={}", self.name(), self.first(), self.last())
    }
}

/// A partition table, without where its copies lie.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Bytes of a sector.
    pub sector_size: u64,
    /// The disk's unique id.
    pub disk_guid: [u8; 16],
    /// The first sector that a partition may have.
    pub first_usable: u64,
    /// The last one.
    pub last_usable: u64,
    /// All places of the array; partition 1 is the first.
    pub entries: Vec<Entry>,
}

impl Table {
    /// How many sectors the array takes.
    pub fn array_sectors(&self) -> u64 {
        ((self.entries.len() * ENTRY) as u64).div_ceil(self.sector_size)
    }

    /// The array as it is written, whole sectors.
    pub fn array(&self) -> Vec<u8> {
        let mut bytes = self.entry_bytes();
        bytes.resize((self.array_sectors() * self.sector_size) as usize, 0);
        bytes
    }

    fn entry_bytes(&self) -> Vec<u8> {
        self.entries.iter().flat_map(|entry| entry.0).collect()
    }

    /// The header as it is written, one sector.
    pub fn header(&self, at: HeaderPlace) -> Vec<u8> {
        let mut bytes = vec![0; self.sector_size as usize];
        bytes[..8].copy_from_slice(SIGNATURE);
        bytes[8..12].copy_from_slice(&REVISION.to_le_bytes());
        bytes[12..16].copy_from_slice(&(HEADER as u32).to_le_bytes());
        bytes[24..32].copy_from_slice(&at.own.to_le_bytes());
        bytes[32..40].copy_from_slice(&at.other.to_le_bytes());
        bytes[40..48].copy_from_slice(&self.first_usable.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.last_usable.to_le_bytes());
        bytes[56..72].copy_from_slice(&self.disk_guid);
        bytes[72..80].copy_from_slice(&at.array.to_le_bytes());
        bytes[80..84].copy_from_slice(&(self.entries.len() as u32).to_le_bytes());
        bytes[84..88].copy_from_slice(&(ENTRY as u32).to_le_bytes());
        bytes[88..92].copy_from_slice(&CRC32.checksum(&self.entry_bytes()).to_le_bytes());
        let checksum = CRC32.checksum(&bytes[..HEADER]);
        bytes[16..20].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }
}

/// Where a header and what belongs to it lie, in sectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderPlace {
    /// The header itself.
    pub own: u64,
    /// The other copy's header.
    pub other: u64,
    /// The array of entries.
    pub array: u64,
}

/// A valid copy of the table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copy {
    /// What it says.
    pub table: Table,
    /// Where it lies.
    pub place: HeaderPlace,
}

/// A disk or an image of one.
#[derive(Debug)]
pub struct Disk {
    /// Open for reading and writing.
    pub file: File,
    /// Its size in sectors.
    pub sectors: u64,
    /// Bytes of a sector.
    pub sector_size: u64,
}

impl Disk {
    /// Reads whole sectors.
    pub fn read(&self, sector: u64, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (count * self.sector_size) as usize];
        self.file
            .read_exact_at(&mut bytes, sector * self.sector_size)?;
        Ok(bytes)
    }
}

/// The copies of the table that a disk has. A copy is `None` where it is
/// missing, damaged or torn.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// At the start of the disk.
    pub primary: Option<Copy>,
    /// In the last sector of the disk. A disk that has grown has none there.
    pub backup: Option<Copy>,
}

impl Found {
    /// The copy that counts.
    pub fn valid(&self) -> Option<&Copy> {
        self.primary.as_ref().or(self.backup.as_ref())
    }
}

/// Reads both copies.
///
/// # Errors
/// The disk could not be read.
pub fn read(disk: &Disk) -> io::Result<Found> {
    Ok(Found {
        primary: read_copy(disk, PRIMARY)?,
        backup: read_copy(disk, disk.sectors.saturating_sub(1))?,
    })
}

fn read_copy(disk: &Disk, at: u64) -> io::Result<Option<Copy>> {
    if at == 0 || at >= disk.sectors {
        return Ok(None);
    }
    let header = disk.read(at, 1)?;
    let length = u32_at(&header, 12) as usize;
    if &header[..8] != SIGNATURE
        || !(HEADER..=header.len()).contains(&length)
        || u32_at(&header, 84) as usize != ENTRY
        || u64_at(&header, 24) != at
    {
        return Ok(None);
    }
    let mut summed = header[..length].to_vec();
    summed[16..20].fill(0);
    if CRC32.checksum(&summed) != u32_at(&header, 16) {
        return Ok(None);
    }
    let count = u32_at(&header, 80);
    let array = u64_at(&header, 72);
    let bytes = u64::from(count) * ENTRY as u64;
    let sectors = bytes.div_ceil(disk.sector_size);
    if count == 0
        || count > MAX_ENTRIES
        || array < PRIMARY_ARRAY
        || array
            .checked_add(sectors)
            .is_none_or(|end| end > disk.sectors)
    {
        return Ok(None);
    }
    let mut entries = disk.read(array, sectors)?;
    entries.truncate(bytes as usize);
    if CRC32.checksum(&entries) != u32_at(&header, 88) {
        return Ok(None);
    }
    let mut disk_guid = [0; 16];
    disk_guid.copy_from_slice(&header[56..72]);
    Ok(Some(Copy {
        table: Table {
            sector_size: disk.sector_size,
            disk_guid,
            first_usable: u64_at(&header, 40),
            last_usable: u64_at(&header, 48),
            entries: self::entries(&entries).collect(),
        },
        place: HeaderPlace {
            own: at,
            other: u64_at(&header, 32),
            array,
        },
    }))
}

/// The entries of an array's bytes.
pub fn entries(bytes: &[u8]) -> impl Iterator<Item = Entry> {
    bytes.as_chunks::<ENTRY>().0.iter().copied().map(Entry)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut value = [0; 4];
    value.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(value)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut value = [0; 8];
    value.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(value)
}
