//! Segments written anew without the entries that have to go
//!
//! What is kept stays in its place and keeps its sequence number. In the place
//! of what is dropped, one entry a service says how many lines that were.
//!
//! The new segment replaces the first of the old ones by a rename, and only
//! then are the others removed, so at each moment every kept entry is in some
//! segment. A reader that meets an entry in both ignores the second
//! (`reader.rs`); one whose segment is gone looks where its entries went.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use log_line::Level;

use crate::error::Error;
use crate::format::{self, Header, Key, Record};
use crate::index::Index;
use crate::retention::Usage;
use crate::segment::{Name, Segment};

/// The new segment's name until it is complete.
pub const UNFINISHED: &str = "thinned";
/// The event of an entry that is in the place of dropped ones.
const EVENT: &[u8] = b"share-exceeded";
/// How much is gathered for one write.
const CHUNK: usize = 64 << 10;

/// What the new segment is.
#[derive(Debug)]
pub struct Thinned {
    /// Bytes of the file.
    pub size: u64,
    /// What is kept, without the entries that say what is not.
    pub usage: Usage,
    /// Number of entries.
    pub entries: u64,
    /// Lines that were dropped now, by service.
    pub dropped: BTreeMap<String, u64>,
}

/// What is to be done with the entries.
#[derive(Default)]
struct Plan {
    /// Up to which sequence number a service's entries go.
    until: BTreeMap<String, u64>,
    /// Where an entry says that lines were dropped, by its sequence number,
    /// and how many.
    notes: BTreeMap<u64, u64>,
    /// Lines that are dropped now, by service.
    dropped: BTreeMap<String, u64>,
    last_sequence: u64,
}

/// Writes the entries of `names`, neighbours of one boot, to one segment with
/// the first one's name, without the oldest `excess` bytes of each service.
/// The other old segments are still there afterwards. On failure nothing has
/// changed.
pub fn rewrite(
    directory: &Path,
    names: &[Name],
    excess: &Usage,
    intern: &mut dyn FnMut(&str) -> std::sync::Arc<str>,
) -> Result<Thinned, Error> {
    let mut segments = Vec::new();
    for name in names {
        segments.extend(Segment::open(directory, *name)?);
    }
    let (Some(first), Some(name)) = (segments.first(), names.first()) else {
        return Err(Error::Read {
            segment: directory.to_owned(),
            source: io::ErrorKind::NotFound.into(),
        });
    };
    let header = Header {
        salt: crate::writer::salt(),
        ..first.header
    };
    let plan = plan(&mut segments, excess)?;
    let path = directory.join(UNFINISHED);
    let written = write(&path, &header, &mut segments, &plan, intern).and_then(|thinned| {
        let replaced = fs::rename(&path, name.path(directory));
        replaced.map_err(|source| Error::Write {
            path: path.clone(),
            source,
        })?;
        Ok(thinned)
    });
    if written.is_err() {
        let _ = fs::remove_file(&path);
    }
    let mut thinned = written?;
    thinned.dropped = plan.dropped;
    Ok(thinned)
}

fn plan(segments: &mut [Segment], excess: &Usage) -> Result<Plan, Error> {
    let mut plan = Plan::default();
    let mut excess = excess.clone();
    // Of each service, the place of dropped lines behind which nothing of it
    // was kept so far.
    let mut open: BTreeMap<String, u64> = BTreeMap::new();
    for segment in segments {
        let mut offset = format::HEADER_SIZE as u64;
        while let Some((at, size)) = segment.next_entry(offset)? {
            offset = at + size as u64;
            let Some(key) = format::decode_key(segment.body(at, size)?) else {
                continue;
            };
            plan.last_sequence = plan.last_sequence.max(key.sequence);
            let left = excess.get_mut(key.service).filter(|left| **left > 0);
            let lines = match (noted(&key), left) {
                (Some(lines), _) => lines,
                (None, Some(left)) => {
                    *left = left.saturating_sub(size as u64);
                    let lines = u64::from(!key.is_unfinished());
                    *plan.dropped.entry(key.service.to_owned()).or_default() += lines;
                    plan.until.insert(key.service.to_owned(), key.sequence);
                    lines
                }
                (None, None) => {
                    open.remove(key.service);
                    continue;
                }
            };
            let place = match open.get(key.service) {
                Some(place) => *place,
                None => {
                    open.insert(key.service.to_owned(), key.sequence);
                    key.sequence
                }
            };
            *plan.notes.entry(place).or_default() += lines;
        }
    }
    Ok(plan)
}

fn write(
    path: &Path,
    header: &Header,
    segments: &mut [Segment],
    plan: &Plan,
    intern: &mut dyn FnMut(&str) -> std::sync::Arc<str>,
) -> Result<Thinned, Error> {
    let mut target = Target::create(path, header)?;
    let mut usage = Usage::new();
    for segment in segments {
        let mut offset = format::HEADER_SIZE as u64;
        while let Some((at, size)) = segment.next_entry(offset)? {
            offset = at + size as u64;
            let body = segment.body(at, size)?;
            let Some(key) = format::decode_key(body) else {
                continue;
            };
            if let Some(lines) = plan.notes.get(&key.sequence) {
                target.note(&key, *lines)?;
            } else if noted(&key).is_none()
                && plan
                    .until
                    .get(key.service)
                    .is_none_or(|until| key.sequence > *until)
            {
                target.copy(&key, body)?;
                match usage.get_mut(key.service) {
                    Some(bytes) => *bytes += size as u64,
                    None => drop(usage.insert(intern(key.service), size as u64)),
                }
            }
        }
        target.index.kernel_position = segment.kernel_position_at_end()?;
    }
    // Numbers of dropped entries are never used again.
    if let Some(span) = &mut target.index.span {
        span.last_sequence = span.last_sequence.max(plan.last_sequence);
    }
    let entries = target.index.entries();
    let size = target.seal()?;
    Ok(Thinned {
        size,
        usage,
        entries,
        dropped: BTreeMap::new(),
    })
}

/// How many lines were dropped in this entry's place, if it says so.
fn noted(key: &Key<'_>) -> Option<u64> {
    let (mut is_note, mut lines) = (false, None);
    for (name, value) in key.fields() {
        match name {
            "event" => is_note = value == EVENT,
            "lines" => lines = std::str::from_utf8(value).ok()?.parse().ok(),
            _ => {}
        }
    }
    lines.filter(|_| is_note)
}

/// The segment that is being written.
struct Target {
    path: PathBuf,
    file: File,
    salt: u32,
    /// Encoded and not yet written.
    buffer: Vec<u8>,
    written: u64,
    index: Index,
}

impl Target {
    fn create(path: &Path, header: &Header) -> Result<Target, Error> {
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o640)
            .open(path)
            .map_err(|source| Error::Write {
                path: path.to_owned(),
                source,
            })?;
        Ok(Target {
            path: path.to_owned(),
            file,
            salt: header.salt,
            buffer: header.encode().to_vec(),
            written: 0,
            index: Index::default(),
        })
    }

    fn copy(&mut self, key: &Key<'_>, body: &[u8]) -> Result<(), Error> {
        self.add(key, key.level);
        format::encode_body(&mut self.buffer, self.salt, body);
        self.flush(CHUNK)
    }

    fn note(&mut self, key: &Key<'_>, lines: u64) -> Result<(), Error> {
        self.add(key, Level::Warning);
        let count = lines.to_string();
        let message = format!("{count} lines were dropped here: more than this service's share");
        let record = Record {
            service: key.service,
            level: Level::Warning,
            realtime: format::micros_to_time(key.realtime).unwrap_or(std::time::UNIX_EPOCH),
            monotonic: Duration::from_micros(key.monotonic),
            unfinished: false,
            message: message.as_bytes(),
            fields: &[
                ("event", EVENT),
                ("of", key.service.as_bytes()),
                ("lines", count.as_bytes()),
            ],
        };
        format::encode_entry(&mut self.buffer, self.salt, key.sequence, &record);
        self.flush(CHUNK)
    }

    fn add(&mut self, key: &Key<'_>, level: Level) {
        let offset = self.written + self.buffer.len() as u64;
        self.index
            .add(offset, key.service, level, key.sequence, key.realtime);
    }

    fn flush(&mut self, above: usize) -> Result<(), Error> {
        if self.buffer.len() > above {
            self.file
                .write_all_at(&self.buffer, self.written)
                .map_err(|source| self.failed(source))?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
        }
        Ok(())
    }

    fn failed(&self, source: io::Error) -> Error {
        Error::Write {
            path: self.path.clone(),
            source,
        }
    }

    /// Writes the index and syncs; how long the file is.
    fn seal(mut self) -> Result<u64, Error> {
        self.flush(0)?;
        let index = self.index.encode();
        format::encode_seal(&mut self.buffer, self.salt, self.written, &index);
        self.flush(0)?;
        self.file
            .sync_data()
            .map_err(|source| self.failed(source))?;
        Ok(self.written)
    }
}
