//! The log of a disk's writes, in the format of Linux' dm-log-writes, which
//! QEMU's `blklogwrites` writes.
//!
//! A sector with the log's size, then for each request a sector that tells what
//! it was, followed by what was written. Requests are in the order in which they
//! ended: what comes after a flush began after it or was not waited for, so that
//! a flush covers all that is before it.

use anyhow::{Context, Result, bail, ensure};

const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

const FLUSH: u64 = 1;
const FUA: u64 = 1 << 1;
const DISCARD: u64 = 1 << 2;
const MARK: u64 = 1 << 3;

/// One request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Bytes at an offset.
    Write {
        /// Where they begin.
        offset: u64,
        /// What was written.
        bytes: Vec<u8>,
    },
    /// All that ended before is on the medium.
    Flush,
}

/// Reads a log.
pub fn parse(log: &[u8]) -> Result<Vec<Request>> {
    ensure!(number(log, 0)? == MAGIC, "it is no log of writes");
    let version = number(log, 8)?;
    ensure!(version == VERSION, "its version is {version}");
    let count = number(log, 16)?;
    let sector = u64::from(u32::from_le_bytes(array(log, 24)?));
    ensure!(
        sector.is_power_of_two() && sector >= 512,
        "its sectors have {sector} bytes"
    );
    let mut requests = Vec::new();
    let mut at = sector;
    for index in 0..count {
        let entry = read_entry(log, at).with_context(|| format!("entry {index} of {count}"))?;
        at += sector;
        let length = entry.sectors * sector;
        let offset = entry.sector * sector;
        if entry.flags & FLUSH != 0 {
            requests.push(Request::Flush);
        }
        if entry.flags & MARK != 0 {
            at += length;
        } else if entry.flags & DISCARD != 0 {
            // Nothing is kept of what was there; a discard has no data in the log.
            let bytes = vec![0; usize::try_from(length)?];
            requests.push(Request::Write { offset, bytes });
        } else if length > 0 {
            let bytes = part(log, at, length)
                .with_context(|| format!("data of entry {index} of {count}"))?
                .to_vec();
            at += length;
            requests.push(Request::Write { offset, bytes });
            if entry.flags & FUA != 0 {
                // More than it says, since older writes may still be pending:
                // no such request comes from a virtio disk.
                bail!("entry {index} is a write with FUA, which is not replayed");
            }
        }
    }
    Ok(requests)
}

struct Entry {
    sector: u64,
    sectors: u64,
    flags: u64,
}

fn read_entry(log: &[u8], at: u64) -> Result<Entry> {
    let entry = Entry {
        sector: number(log, at)?,
        sectors: number(log, at + 8)?,
        flags: number(log, at + 16)?,
    };
    let known = FLUSH | FUA | DISCARD | MARK;
    ensure!(entry.flags & !known == 0, "flags {:#x}", entry.flags);
    Ok(entry)
}

fn number(log: &[u8], at: u64) -> Result<u64> {
    Ok(u64::from_le_bytes(array(log, at)?))
}

fn array<const N: usize>(log: &[u8], at: u64) -> Result<[u8; N]> {
    Ok(part(log, at, N as u64)?.try_into()?)
}

fn part(log: &[u8], at: u64, length: u64) -> Result<&[u8]> {
    let start = usize::try_from(at)?;
    let end = start
        .checked_add(usize::try_from(length)?)
        .context("a length that is no length")?;
    log.get(start..end)
        .with_context(|| format!("the log ends at byte {}", log.len()))
}

#[cfg(test)]
mod tests {
    use super::{DISCARD, FLUSH, FUA, MAGIC, Request, parse};

    fn entry(sector: u64, flags: u64, data: &[u8]) -> Vec<u8> {
        let sectors = (data.len() as u64).div_ceil(512);
        let mut bytes = Vec::new();
        for number in [sector, sectors, flags, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.resize(512, 0);
        bytes.extend(data);
        bytes
    }

    fn log(entries: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for number in [MAGIC, 1, entries.len() as u64] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(512u32.to_le_bytes());
        bytes.resize(512, 0);
        bytes.extend(entries.concat());
        bytes
    }

    #[test]
    fn writes_and_flushes_are_read_in_their_order() {
        let requests = parse(&log(&[
            entry(3, 0, &[1; 1024]),
            entry(0, FLUSH, &[]),
            entry(0, 0, &[2; 512]),
        ]));
        assert_eq!(
            requests.unwrap(),
            [
                Request::Write {
                    offset: 3 * 512,
                    bytes: vec![1; 1024]
                },
                Request::Flush,
                Request::Write {
                    offset: 0,
                    bytes: vec![2; 512]
                },
            ]
        );
    }

    #[test]
    fn a_discard_has_no_data() {
        let mut discard = entry(8, DISCARD, &[0; 1024]);
        discard.truncate(512);
        let requests = parse(&log(&[discard, entry(0, FLUSH, &[])])).unwrap();
        assert_eq!(requests.len(), 2);
        assert_eq!(
            requests[0],
            Request::Write {
                offset: 8 * 512,
                bytes: vec![0; 1024]
            }
        );
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        let good = log(&[entry(0, 0, &[1; 512])]);
        assert!(parse(&good[..good.len() - 1]).is_err());
        assert!(parse(&good[..20]).is_err());
        let mut bad = good.clone();
        bad[0] ^= 1;
        assert!(parse(&bad).is_err());
        assert!(parse(&log(&[entry(0, 64, &[])])).is_err());
        assert!(parse(&log(&[entry(0, FUA, &[1; 512])])).is_err());
    }
}
