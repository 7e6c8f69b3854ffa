//! The bytes of a segment: header, records, index record, trailer
//!
//! `docs/journal.md` is the specification; this module is its only
//! implementation, and it is pure: bytes in, bytes out.
//!
//! Two rules make the format robust:
//! - Every structure has a checksum that is seeded with its segment's *salt*, a
//!   random number that no service can know. So a line that contains the bytes
//!   of a record can never pass for one, not even when the record around it is
//!   damaged and the reader searches for the next one.
//! - An entry depends only on its own bytes and the segment's header, and the
//!   header is stored twice. So damage costs only the records that it touches.

use std::time::{Duration, SystemTime};

use log_line::Level;

use crate::entry::{BootId, Entry};

/// First bytes of a segment; the digit is the format's version.
const MAGIC: [u8; 8] = *b"WhryJnl1";
/// Last bytes of a sealed segment's trailer, checksum aside.
const TRAILER_MAGIC: [u8; 4] = *b"WJix";

const HEADER_COPY: usize = 64;
/// Where a segment's first record is: behind both copies of the header.
pub const HEADER_SIZE: usize = 2 * HEADER_COPY;
/// Marker, kind and length, checksum.
pub const RECORD_HEADER: usize = 12;
/// Offset of the index, magic, checksum.
pub const TRAILER_SIZE: usize = 16;
/// The longest body that the record header's 24 bits can express.
const MAX_BODY: usize = (1 << 24) - 1;
/// The longest body of an entry: a complete message, and room for fields.
pub const MAX_ENTRY_BODY: usize = 64 * 1024;
/// Longest service or field name: its length is one byte.
pub const MAX_NAME: usize = 255;

const FLAG_UNFINISHED: u8 = 1 << 3;
const FLAG_FIELDS: u8 = 1 << 4;
const LEVEL_MASK: u8 = 0b111;

/// What a segment's header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub boot_id: BootId,
    pub boot: u64,
    /// Sequence number of the first record.
    pub first: u64,
    /// The kernel's own number of the newest kernel message stored in this
    /// boot before this segment, plus one; 0 when there is none.
    pub kernel_position: u64,
    /// Marks this segment's records and seeds their checksums.
    pub salt: u32,
}

/// The kind of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Entry,
    Index,
    /// From a later version of the format: skipped.
    Unknown,
}

impl Kind {
    fn from_number(number: u8) -> Kind {
        match number {
            0 => Kind::Entry,
            1 => Kind::Index,
            _ => Kind::Unknown,
        }
    }
}

/// An entry to be stored. The writer sets sequence number and boot.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// Who writes it; at most 255 bytes, the rest is cut off.
    pub service: &'a str,
    /// How severe it is.
    pub level: Level,
    /// Wall clock.
    pub realtime: SystemTime,
    /// Since the kernel started, time asleep included.
    pub monotonic: Duration,
    /// The line continues in this service's next record.
    pub unfinished: bool,
    /// The line; at most [`MAX_MESSAGE`](crate::MAX_MESSAGE) bytes, the rest
    /// is cut off.
    pub message: &'a [u8],
    /// Additional fields. Those that do not fit into an entry are left out.
    pub fields: &'a [(&'a str, &'a [u8])],
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_SIZE] {
        let mut copy = Vec::with_capacity(HEADER_COPY);
        copy.extend_from_slice(&MAGIC);
        copy.extend_from_slice(&self.boot_id.0);
        copy.extend_from_slice(&self.boot.to_le_bytes());
        copy.extend_from_slice(&self.first.to_le_bytes());
        copy.extend_from_slice(&self.kernel_position.to_le_bytes());
        copy.extend_from_slice(&self.salt.to_le_bytes());
        copy.resize(HEADER_COPY - 4, 0);
        copy.extend_from_slice(&crc32fast::hash(&copy).to_le_bytes());
        let mut both = [0; HEADER_SIZE];
        both[..HEADER_COPY].copy_from_slice(&copy);
        both[HEADER_COPY..].copy_from_slice(&copy);
        both
    }

    /// The header at the start of `bytes`: the first intact copy.
    pub fn decode(bytes: &[u8]) -> Option<Header> {
        bytes
            .chunks_exact(HEADER_COPY)
            .take(2)
            .find_map(Header::decode_copy)
    }

    fn decode_copy(copy: &[u8]) -> Option<Header> {
        let (content, checksum) = copy.split_at_checked(HEADER_COPY - 4)?;
        let mut rest = Bytes(content);
        if rest.take(8)? != MAGIC || crc32fast::hash(content).to_le_bytes() != checksum {
            return None;
        }
        Some(Header {
            boot_id: BootId(rest.take(16)?.try_into().ok()?),
            boot: rest.u64()?,
            first: rest.u64()?,
            kernel_position: rest.u64()?,
            salt: rest.u32()?,
        })
    }
}

fn checksum(salt: u32, parts: [&[u8]; 2]) -> [u8; 4] {
    let mut hasher = crc32fast::Hasher::new_with_initial(salt);
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize().to_le_bytes()
}

/// Appends a record with the body that `body` appends; returns its offset in
/// `out`.
fn encode_record(out: &mut Vec<u8>, salt: u32, kind: u8, body: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = out.len();
    out.extend_from_slice(&salt.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    body(out);
    let length = out.len() - start - RECORD_HEADER;
    debug_assert!(length <= MAX_BODY);
    let kind_and_length = (u32::from(kind) << 24 | length as u32).to_le_bytes();
    let sum = checksum(salt, [&kind_and_length, &out[start + RECORD_HEADER..]]);
    out[start + 4..start + 8].copy_from_slice(&kind_and_length);
    out[start + 8..start + 12].copy_from_slice(&sum);
    start
}

/// Appends an entry to `out`.
pub fn encode_entry(out: &mut Vec<u8>, salt: u32, sequence: u64, record: &Record<'_>) {
    encode_record(out, salt, 0, |out| {
        let message = &record.message[..record.message.len().min(crate::MAX_MESSAGE)];
        let service = clip(record.service);
        let mut room = MAX_ENTRY_BODY - crate::MAX_MESSAGE - MAX_NAME - 64;
        let fitting = record.fields.iter().take_while(|(name, value)| {
            let size = name.len() + value.len() + 8;
            let fits = name.len() <= MAX_NAME && size <= room;
            room = room.saturating_sub(size);
            fits
        });
        let fields = fitting.count();

        let mut flags = record.level.number();
        if record.unfinished {
            flags |= FLAG_UNFINISHED;
        }
        if fields > 0 {
            flags |= FLAG_FIELDS;
        }
        out.push(flags);
        encode_number(out, sequence);
        encode_number(out, duration_to_micros(record.monotonic));
        encode_number(out, time_to_micros(record.realtime));
        encode_name(out, service);
        if fields > 0 {
            encode_number(out, fields as u64);
            for (name, value) in &record.fields[..fields] {
                encode_name(out, name);
                encode_number(out, value.len() as u64);
                out.extend_from_slice(value);
            }
        }
        out.extend_from_slice(message);
    });
}

/// Appends an entry with a body that was encoded before.
pub fn encode_body(out: &mut Vec<u8>, salt: u32, body: &[u8]) {
    encode_record(out, salt, 0, |out| out.extend_from_slice(body));
}

/// Appends a segment's index and its trailer, given the body of the index and
/// where in the segment `out` will go.
pub fn encode_seal(out: &mut Vec<u8>, salt: u32, at: u64, index: &[u8]) {
    let start = encode_record(out, salt, 1, |out| out.extend_from_slice(index));
    let offset = (at + start as u64).to_le_bytes();
    out.extend_from_slice(&offset);
    out.extend_from_slice(&TRAILER_MAGIC);
    out.extend_from_slice(&checksum(salt, [&offset, &TRAILER_MAGIC]));
}

/// The offset of the index that the last 16 bytes of a sealed segment give.
pub fn decode_trailer(salt: u32, bytes: &[u8]) -> Option<u64> {
    let mut rest = Bytes(bytes);
    let offset = rest.take(8)?;
    let whole =
        rest.take(4)? == TRAILER_MAGIC && rest.take(4)? == checksum(salt, [offset, &TRAILER_MAGIC]);
    whole.then(|| Bytes(offset).u64())?
}

/// What a record's first bytes claim: its kind and its body's length. `None` if
/// no record of this segment can start there.
pub fn decode_record_header(salt: u32, bytes: &[u8]) -> Option<(Kind, usize)> {
    let mut rest = Bytes(bytes);
    if rest.u32()? != salt {
        return None;
    }
    let kind_and_length = rest.u32()?;
    let kind = Kind::from_number((kind_and_length >> 24) as u8);
    let length = kind_and_length as usize & MAX_BODY;
    (kind != Kind::Entry || length <= MAX_ENTRY_BODY).then_some((kind, length))
}

/// The body of the record that is exactly `record`, if its checksum is right.
pub fn checked_body(salt: u32, record: &[u8]) -> Option<&[u8]> {
    let (head, body) = record.split_at_checked(RECORD_HEADER)?;
    (checksum(salt, [&head[4..8], body]) == head[8..12]).then_some(body)
}

/// The part of an entry that decides whether it is wanted, and where the rest
/// starts.
#[derive(Clone, Copy)]
pub struct Key<'a> {
    pub level: Level,
    pub sequence: u64,
    pub monotonic: u64,
    /// Microseconds since 1970.
    pub realtime: u64,
    pub service: &'a str,
    flags: u8,
    rest: Bytes<'a>,
}

/// The key of the entry in a record's body; `None` if it violates the format.
pub fn decode_key(body: &[u8]) -> Option<Key<'_>> {
    let mut rest = Bytes(body);
    let flags = rest.u8()?;
    Some(Key {
        level: Level::from_number(flags & LEVEL_MASK)?,
        sequence: rest.number()?,
        monotonic: rest.number()?,
        realtime: rest.number()?,
        service: rest.name()?,
        flags,
        rest,
    })
}

impl<'a> Key<'a> {
    /// Whether the line continues in the service's next entry.
    pub fn is_unfinished(&self) -> bool {
        self.flags & FLAG_UNFINISHED != 0
    }

    /// The additional fields, up to the first that violates the format.
    pub fn fields(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        let mut rest = self.rest;
        let mut left = match self.flags & FLAG_FIELDS {
            0 => 0,
            _ => rest.number().unwrap_or(0),
        };
        std::iter::from_fn(move || {
            left = left.checked_sub(1)?;
            let name = rest.name()?;
            let length = usize::try_from(rest.number()?).ok()?;
            Some((name, rest.take(length)?))
        })
    }
}

/// The entry in a record's body; `None` if it violates the format.
pub fn decode_entry(header: &Header, body: &[u8]) -> Option<Entry> {
    let key = decode_key(body)?;
    let mut rest = key.rest;
    let mut fields = Vec::new();
    if key.flags & FLAG_FIELDS != 0 {
        for _ in 0..rest.number()? {
            let name = rest.name()?.to_owned();
            let length = usize::try_from(rest.number()?).ok()?;
            fields.push((name, rest.take(length)?.to_owned()));
        }
    }
    Some(Entry {
        sequence: key.sequence,
        boot: header.boot,
        boot_id: header.boot_id,
        realtime: micros_to_time(key.realtime)?,
        monotonic: Duration::from_micros(key.monotonic),
        service: key.service.to_owned(),
        level: key.level,
        unfinished: key.flags & FLAG_UNFINISHED != 0,
        message: rest.0.to_owned(),
        fields,
    })
}

/// Appends an unsigned number in LEB128: seven bits per byte, low bits first,
/// the top bit set in all but the last byte.
pub fn encode_number(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// Appends a name, preceded by its length in one byte.
pub fn encode_name(out: &mut Vec<u8>, name: &str) {
    let name = clip(name);
    out.push(name.len() as u8);
    out.extend_from_slice(name.as_bytes());
}

/// The first 255 bytes of a name, fewer if that would cut a character.
pub fn clip(name: &str) -> &str {
    let mut end = name.len().min(MAX_NAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    &name[..end]
}

/// Microseconds since 1970; a clock before that counts as 1970.
pub fn time_to_micros(time: SystemTime) -> u64 {
    duration_to_micros(
        time.duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default(),
    )
}

/// The inverse of [`time_to_micros`]; `None` if the system cannot represent it.
pub fn micros_to_time(micros: u64) -> Option<SystemTime> {
    SystemTime::UNIX_EPOCH.checked_add(Duration::from_micros(micros))
}

fn duration_to_micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Bytes still to be decoded; every method takes from the front and returns
/// `None` if they run out or make no sense.
#[derive(Clone, Copy)]
pub struct Bytes<'a>(pub &'a [u8]);

impl<'a> Bytes<'a> {
    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|byte| byte[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.take(8)?.try_into().ok()?))
    }

    pub fn number(&mut self) -> Option<u64> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                return None;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Some(number);
            }
        }
        None
    }

    pub fn name(&mut self) -> Option<&'a str> {
        let length = self.u8()?;
        std::str::from_utf8(self.take(usize::from(length))?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        boot_id: BootId([7; 16]),
        boot: 12,
        first: 3456,
        kernel_position: 789,
        salt: 0x1234_5678,
    };

    fn record() -> Record<'static> {
        Record {
            service: "network",
            level: Level::Notice,
            realtime: SystemTime::UNIX_EPOCH + Duration::from_micros(1_700_000_000_000_001),
            monotonic: Duration::from_micros(1_234_567),
            unfinished: true,
            message: b"lease \xff renewed",
            fields: &[("event", b"lease"), ("bytes", &[0, 1, 2])],
        }
    }

    fn decode(bytes: &[u8]) -> Option<Entry> {
        let (kind, length) = decode_record_header(HEADER.salt, bytes)?;
        assert_eq!(kind, Kind::Entry);
        let record = bytes.get(..RECORD_HEADER + length)?;
        decode_entry(&HEADER, checked_body(HEADER.salt, record)?)
    }

    #[test]
    fn an_entry_reads_back_as_written() {
        let mut bytes = Vec::new();
        encode_entry(&mut bytes, HEADER.salt, 3500, &record());
        let entry = decode(&bytes).unwrap();
        assert_eq!(entry.sequence, 3500);
        assert_eq!((entry.boot, entry.boot_id), (12, BootId([7; 16])));
        assert_eq!(entry.service, "network");
        assert_eq!(entry.level, Level::Notice);
        assert_eq!(entry.realtime, record().realtime);
        assert_eq!(entry.monotonic, record().monotonic);
        assert!(entry.unfinished);
        assert_eq!(entry.message, record().message);
        assert_eq!(entry.field("bytes"), Some(&[0u8, 1, 2][..]));
        assert_eq!(entry.fields.len(), 2);
    }

    #[test]
    fn extreme_values_read_back() {
        let long = "é".repeat(200);
        let message = vec![b'x'; 2 * crate::MAX_MESSAGE];
        let value = vec![0; MAX_ENTRY_BODY];
        let mut bytes = Vec::new();
        let extreme = Record {
            service: &long,
            level: Level::Emergency,
            realtime: SystemTime::UNIX_EPOCH - Duration::from_secs(1),
            monotonic: Duration::from_micros(u64::MAX),
            unfinished: false,
            message: &message,
            fields: &[("small", b"1"), ("too-big", &value), ("after", b"2")],
        };
        encode_entry(&mut bytes, HEADER.salt, u64::MAX, &extreme);
        let entry = decode(&bytes).unwrap();
        assert_eq!(entry.sequence, u64::MAX);
        assert_eq!(entry.service, "é".repeat(127));
        assert_eq!(entry.realtime, SystemTime::UNIX_EPOCH);
        assert_eq!(entry.monotonic, Duration::from_micros(u64::MAX));
        assert_eq!(entry.message.len(), crate::MAX_MESSAGE);
        assert_eq!(entry.fields, [("small".to_owned(), b"1".to_vec())]);
    }

    #[test]
    fn every_changed_bit_of_a_record_is_noticed() {
        let mut bytes = Vec::new();
        encode_entry(&mut bytes, HEADER.salt, 1, &record());
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let body = decode_record_header(HEADER.salt, &damaged)
                .and_then(|(_, length)| damaged.get(..RECORD_HEADER + length))
                .and_then(|record| checked_body(HEADER.salt, record));
            assert_eq!(body, None, "bit {bit}");
        }
    }

    #[test]
    fn a_record_of_another_segment_does_not_pass() {
        let mut bytes = Vec::new();
        encode_entry(&mut bytes, HEADER.salt ^ 1, 1, &record());
        assert_eq!(decode(&bytes), None);
    }

    #[test]
    fn a_header_survives_damage_to_either_copy() {
        let bytes = HEADER.encode();
        assert_eq!(Header::decode(&bytes), Some(HEADER));
        for position in 0..bytes.len() {
            let mut damaged = bytes;
            damaged[position] ^= 0x10;
            assert_eq!(Header::decode(&damaged), Some(HEADER), "byte {position}");
        }
        assert_eq!(Header::decode(&bytes[..HEADER_COPY]), Some(HEADER));
        assert_eq!(Header::decode(&bytes[..HEADER_COPY - 1]), None);
        assert_eq!(Header::decode(&[0; HEADER_SIZE]), None);
    }

    #[test]
    fn a_trailer_says_where_the_index_is() {
        let mut bytes = Vec::new();
        encode_seal(&mut bytes, HEADER.salt, 5000, b"index");
        let (record, trailer) = bytes.split_at(bytes.len() - TRAILER_SIZE);
        assert_eq!(decode_trailer(HEADER.salt, trailer), Some(5000));
        assert_eq!(
            decode_record_header(HEADER.salt, record),
            Some((Kind::Index, 5))
        );
        assert_eq!(checked_body(HEADER.salt, record), Some(&b"index"[..]));
        for position in 0..TRAILER_SIZE {
            let mut damaged = trailer.to_vec();
            damaged[position] ^= 4;
            assert_eq!(decode_trailer(HEADER.salt, &damaged), None);
        }
    }

    #[test]
    fn numbers_read_back_and_oversized_ones_do_not() {
        for number in [0, 1, 127, 128, 300, u64::from(u32::MAX), u64::MAX] {
            let mut bytes = Vec::new();
            encode_number(&mut bytes, number);
            assert_eq!(Bytes(&bytes).number(), Some(number));
            bytes.pop();
            assert_eq!(Bytes(&bytes).number(), None);
        }
        assert_eq!(Bytes(&[0xff; 11]).number(), None);
        let mut beyond = [0x80; 10];
        beyond[9] = 2;
        assert_eq!(Bytes(&beyond).number(), None);
    }
}
