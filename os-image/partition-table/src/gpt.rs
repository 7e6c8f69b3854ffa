//! The partition table on a disk (UEFI specification, chapter 5).
//!
//! Written here, not taken from a library, for one property: a table is valid
//! only if the checksum of its array of entries is right too, and writing is a
//! list of sectors in our order ([`crate::rewrite`]), not a call. So a copy
//! torn by a power cut is recognised as torn. Changing an entry changes nothing
//! else: all other bytes of the table are preserved.

use std::fmt;
use std::io;

use block_device::BlockDevice;
use crc::{CRC_32_ISO_HDLC, Crc};

const CRC32: Crc<u32> = Crc::<u32>::new(&CRC_32_ISO_HDLC);

const SIGNATURE: &[u8; 8] = b"EFI PART";
const REVISION: u32 = 0x0001_0000;
/// Bytes of the header that the specification defines.
const HEADER: usize = 92;
/// Bytes of an entry. The specification allows more, Linux does not.
const ENTRY: usize = 128;
/// More entries than any tool writes; a limit for reading.
const MAX_ENTRIES: u32 = 1024;
/// Where the primary header lies.
pub const PRIMARY: u64 = 1;
/// Where the primary's array lies.
pub const PRIMARY_ARRAY: u64 = 2;

/// A GUID as it is on the disk from its 16 bytes in the order of its text, or
/// the other way round: the first three fields are little-endian on the disk
/// (UEFI specification, appendix A).
fn mixed_endian(id: [u8; 16]) -> [u8; 16] {
    let mut swapped = id;
    swapped[..4].reverse();
    swapped[4..6].reverse();
    swapped[6..8].reverse();
    swapped
}

/// An entry: one partition, or an unused slot of the array.
#[derive(Clone, PartialEq, Eq)]
pub struct Entry([u8; ENTRY]);

impl Entry {
    /// An unused entry of the array.
    pub const UNUSED: Self = Self([0; ENTRY]);

    /// A new partition on the given sectors, both included. The bytes of type
    /// and unique id are in the order of their text.
    pub fn new(kind: [u8; 16], id: [u8; 16], first: u64, last: u64, name: &str) -> Self {
        let mut entry = Self([0; ENTRY]);
        entry.0[..16].copy_from_slice(&mixed_endian(kind));
        entry.set_id(id);
        entry.0[32..40].copy_from_slice(&first.to_le_bytes());
        entry.set_last(last);
        entry.set_name(name);
        entry
    }

    /// Whether it is a partition.
    pub fn is_used(&self) -> bool {
        self.kind() != [0; 16]
    }

    /// Whether the entry is unused.
    pub fn is_blank(&self) -> bool {
        self.0 == [0; ENTRY]
    }

    /// Whether both are the same partition, possibly with another end, name or
    /// id: it has the same type and starts at the same sector.
    pub fn is_same_partition(&self, other: &Self) -> bool {
        self.kind() == other.kind() && self.first() == other.first()
    }

    /// Its type, the bytes in the order of its text.
    pub fn kind(&self) -> [u8; 16] {
        self.guid(0)
    }

    /// Its unique id (PARTUUID), the bytes in the order of its text.
    pub fn id(&self) -> [u8; 16] {
        self.guid(16)
    }

    fn guid(&self, at: usize) -> [u8; 16] {
        let mut guid = [0; 16];
        guid.copy_from_slice(&self.0[at..at + 16]);
        mixed_endian(guid)
    }

    /// Gives it a unique id, the bytes in the order of its text.
    pub fn set_id(&mut self, id: [u8; 16]) {
        self.0[16..32].copy_from_slice(&mixed_endian(id));
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

/// A partition table, without the locations of its copies.
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
    /// All entries of the array; partition 1 is the first.
    pub entries: Vec<Entry>,
}

impl Table {
    /// The partitions of a type in the order of their numbers, which start at
    /// 1.
    pub fn of_type(&self, kind: [u8; 16]) -> impl Iterator<Item = (u32, &Entry)> {
        (1..)
            .zip(&self.entries)
            .filter(move |(_, entry)| entry.is_used() && entry.kind() == kind)
    }

    /// The partition of a number, from 1.
    pub fn partition(&self, number: u32) -> Option<&Entry> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.entries.get(index).filter(|entry| entry.is_used())
    }

    /// The partition of a number, from 1, to change it.
    pub fn partition_mut(&mut self, number: u32) -> Option<&mut Entry> {
        let index = usize::try_from(number).ok()?.checked_sub(1)?;
        self.entries.get_mut(index).filter(|entry| entry.is_used())
    }

    /// How many sectors the array occupies.
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

/// Where a header and its parts are, in sectors.
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
    /// Its contents.
    pub table: Table,
    /// Where it is.
    pub place: HeaderPlace,
}

/// A device in sectors.
#[derive(Clone, Copy, Debug)]
pub struct Sectors<D> {
    /// The whole disk or an image of one.
    pub device: D,
    /// Bytes of a sector.
    pub sector_size: u64,
}

impl<D: BlockDevice> Sectors<D> {
    /// How many there are.
    pub fn count(&self) -> u64 {
        self.device.length() / self.sector_size
    }

    /// Reads whole sectors.
    ///
    /// # Errors
    /// The device could not be read, or ends before.
    pub fn read(&self, sector: u64, count: u64) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; (count * self.sector_size) as usize];
        self.device.read_at(&mut bytes, sector * self.sector_size)?;
        Ok(bytes)
    }

    /// Writes whole sectors.
    ///
    /// # Errors
    /// The device could not be written, or ends before.
    pub fn write(&self, sector: u64, bytes: &[u8]) -> io::Result<()> {
        self.device.write_at(bytes, sector * self.sector_size)
    }
}

/// The copies of the table on a disk. A copy is `None` if it is missing,
/// damaged or torn.
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
pub fn read<D: BlockDevice>(disk: &Sectors<D>) -> io::Result<Found> {
    Ok(Found {
        primary: read_copy(disk, PRIMARY)?,
        backup: read_copy(disk, disk.count().saturating_sub(1))?,
    })
}

fn read_copy<D: BlockDevice>(disk: &Sectors<D>, at: u64) -> io::Result<Option<Copy>> {
    if at == 0 || at >= disk.count() {
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
            .is_none_or(|end| end > disk.count())
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
