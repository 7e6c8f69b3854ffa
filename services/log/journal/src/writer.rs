//! The journal's one writer: append, rotate, drop what is over its share
//!
//! ```text
//!  open ──▶ push … push ──▶ commit ──▶ push … ──▶ sync
//!   │         │ segment       │ room?
//!   │         │ full: seal,   │ no: thin an old segment (`thinning.rs`)
//!   │         │ begin next    ▼
//!   │         ▼            one write(2) of all pushed records
//!   └ takes the lock, cuts a torn tail off, goes on in the boot's segment
//! ```
//!
//! Invariant: whatever moment the process is killed or the power goes, the
//! bytes before the last commit's are whole, and a torn record can only be at
//! the end of the newest segment, where the next [`Writer::open`] cuts it off.
//! What was synced survives a power cut.
//!
//! A failed commit leaves the journal as it was, and its records are gone
//! from the buffer: whoever pushed them still has them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{Flock, FlockArg};

use log_line::Level;

use crate::entry::BootId;
use crate::error::Error;
use crate::format::{self, Header, Kind, Record};
use crate::index::Index;
use crate::retention::{self, Usage};
use crate::segment::{self, Found, Name, Segment};
use crate::space::{self, FileSystem, Limits};
use crate::thinning;

/// The field that holds a kernel message's own sequence number, in decimal.
/// Reading the kernel's log continues after the newest stored one.
pub const KERNEL_SEQUENCE: &str = "kernel_sequence";

/// The maximum number of files: a machine that boots often and logs little
/// would otherwise collect them without limit.
const MAX_SEGMENTS: usize = 128;
/// A segment is thinned if at least this part of it goes, as a divisor;
/// writing the rest again would cost too much otherwise.
const WORTH_THINNING: u64 = 4;
/// Free space is checked again after this many bytes.
const SPACE_CHECK: u64 = 256 << 10;
/// A single segment that holds this much is dropped if there is no other way to
/// store a new line.
const WORTH_DROPPING: u64 = 32 << 10;

/// Writes a journal. There is at most one for a directory.
pub struct Writer {
    directory: PathBuf,
    directory_file: File,
    _lock: Flock<File>,
    limits: Limits,
    boot_id: BootId,
    boot: u64,
    /// All but the active one, oldest first.
    older: VecDeque<Older>,
    active: Option<Active>,
    next_sequence: u64,
    /// Records pushed and not committed, encoded for the active segment.
    buffer: Vec<u8>,
    /// Of the newest kernel message, pushed ones included, plus one.
    kernel_position: u64,
    /// What `next_sequence` and `kernel_position` were after the last commit.
    committed: (u64, u64),
    allowed: u64,
    until_space_check: u64,
    starved: bool,
    dropped: Dropped,
    /// Lines dropped from services that were over their share.
    thinned: BTreeMap<String, u64>,
    /// The services' names, each in memory once.
    services: BTreeSet<Arc<str>>,
    dirty: bool,
    directory_dirty: bool,
    resumed: Resumed,
}

struct Older {
    name: Name,
    size: u64,
    /// `None` until it is needed: measuring reads the segment's index.
    content: Option<Content>,
}

/// What an older segment holds.
#[derive(Default)]
struct Content {
    usage: Usage,
    entries: u64,
}

struct Active {
    name: Name,
    file: File,
    salt: u32,
    length: u64,
    index: Index,
    usage: Usage,
}

/// What an opened journal says about the previous writer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resumed {
    /// Bytes of a torn record that were cut off.
    pub cut_off: u64,
    /// Services whose last line in this boot continues in their next entry, and
    /// its level.
    pub unfinished: BTreeMap<String, Level>,
}

/// What was dropped early because the disk is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// How many segments.
    pub segments: u64,
    /// How many entries were in them.
    pub entries: u64,
}

impl Writer {
    /// Opens the journal in `directory`, which is created if it is missing, for
    /// the boot with this id. Takes the journal's lock and repairs what a crash
    /// or a power cut left.
    pub fn open(directory: &Path, boot_id: BootId, limits: Limits) -> Result<Writer, Error> {
        let failed = |source| Error::Write {
            path: directory.to_owned(),
            source,
        };
        fs::create_dir_all(directory).map_err(failed)?;
        let directory_file = File::open(directory).map_err(failed)?;
        let mut writer = Writer {
            _lock: lock(directory)?,
            directory: directory.to_owned(),
            directory_file,
            limits,
            boot_id,
            boot: 1,
            older: VecDeque::new(),
            active: None,
            next_sequence: 1,
            buffer: Vec::new(),
            kernel_position: 0,
            committed: (1, 0),
            allowed: limits.max_bytes,
            until_space_check: 0,
            starved: false,
            dropped: Dropped::default(),
            thinned: BTreeMap::new(),
            services: BTreeSet::new(),
            dirty: false,
            directory_dirty: false,
            resumed: Resumed::default(),
        };
        // What an interrupted thinning left.
        let _ = fs::remove_file(directory.join(thinning::UNFINISHED));
        writer.recover()?;
        writer.committed = (writer.next_sequence, writer.kernel_position);
        Ok(writer)
    }

    /// What the previous writer left, in this boot.
    pub fn resumed(&self) -> &Resumed {
        &self.resumed
    }

    /// The kernel's number of the first kernel message of this boot that is not
    /// in the journal yet.
    pub fn kernel_position(&self) -> u64 {
        self.kernel_position
    }

    /// The sequence number that the next record pushed gets.
    pub fn next_sequence(&self) -> u64 {
        self.next_sequence
    }

    /// Removes the newest entries again, from that sequence number on, as far
    /// as they are in the active segment. Nothing may be pushed and
    /// uncommitted.
    pub fn roll_back(&mut self, first: u64) -> Result<(), Error> {
        debug_assert!(self.buffer.is_empty());
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        let path = active.name.path(&self.directory);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let file = segment::open(OpenOptions::new().read(true), &path).map_err(failed)?;
        let Some(mut segment) = Segment::from_file(file, &path)? else {
            return Ok(());
        };
        let (end, index, unfinished) = scan(&mut segment, first)?;
        active.file.set_len(end).map_err(failed)?;
        active.length = end;
        self.next_sequence = first.max(active.name.first).min(self.next_sequence);
        self.kernel_position = index.kernel_position;
        self.committed = (self.next_sequence, self.kernel_position);
        self.resumed.unfinished = unfinished;
        active.usage = usage(&mut self.services, &index, end);
        active.index = index;
        Ok(())
    }

    /// This boot's number.
    pub fn boot(&self) -> u64 {
        self.boot
    }

    /// How many bytes the next commit will write.
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// Whether something is stored that a power cut would lose.
    pub fn is_dirty(&self) -> bool {
        self.dirty
    }

    /// What was dropped for lack of space since the last call.
    pub fn take_dropped(&mut self) -> Dropped {
        std::mem::take(&mut self.dropped)
    }

    /// How many lines were dropped since the last call because their services
    /// were over their share, by service.
    pub fn take_thinned(&mut self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.thinned)
    }

    /// Encodes a record to be written by the next [`Writer::commit`]. Starts a
    /// new segment first if it is time to; only that can fail.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), Error> {
        if self.buffer.is_empty() {
            self.prepare()?;
        }
        let Some(active) = &self.active else {
            return Ok(()); // prepare() made one
        };
        format::encode_entry(&mut self.buffer, active.salt, self.next_sequence, record);
        self.next_sequence += 1;
        if let Some(position) = kernel_position(record.fields.iter().copied()) {
            self.kernel_position = position;
        }
        Ok(())
    }

    /// Stores all pushed records, in one write. They then survive the death
    /// of this process; [`Writer::sync`] makes them survive a power cut.
    pub fn commit(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let stored = self.write_buffer();
        if stored.is_err() {
            // As if they had never been pushed.
            (self.next_sequence, self.kernel_position) = self.committed;
        }
        self.committed = (self.next_sequence, self.kernel_position);
        self.buffer.clear();
        stored
    }

    /// Makes everything stored survive a power cut.
    pub fn sync(&mut self) -> Result<(), Error> {
        if let Some(active) = self.active.as_ref().filter(|_| self.dirty) {
            active.file.sync_data().map_err(|source| Error::Write {
                path: active.name.path(&self.directory),
                source,
            })?;
        }
        if self.directory_dirty {
            self.sync_directory()?;
        }
        self.dirty = false;
        self.directory_dirty = false;
        // Others may have filled the disk meanwhile.
        self.until_space_check = 0;
        Ok(())
    }

    /// Writes the index of the active segment and syncs everything: the next
    /// start has nothing to scan.
    pub fn close(mut self) -> Result<(), Error> {
        self.commit()?;
        self.seal()?;
        self.sync()
    }

    /// Ensures that there is an active segment with room.
    fn prepare(&mut self) -> Result<(), Error> {
        if self.until_space_check == 0 {
            self.check_space();
        }
        let segment_size = space::segment_size(self.allowed);
        if let Some(active) = &self.active {
            if self.starved && self.older.is_empty() && active.length > WORTH_DROPPING {
                self.give_up_active()?;
            } else if active.length + active.index.size_bound() >= segment_size {
                self.rotate();
            }
        }
        if self.active.is_none() {
            self.begin()?;
        }
        Ok(())
    }

    fn check_space(&mut self) {
        // If the file system does not answer, the journal's own limit still
        // applies.
        if let Ok(system) = FileSystem::of(&self.directory_file) {
            self.allowed = space::allowed(self.limits, self.used(), system);
        }
        self.until_space_check = SPACE_CHECK;
    }

    fn used(&self) -> u64 {
        let older: u64 = self.older.iter().map(|older| blocks(older.size)).sum();
        let active = self.active.as_ref().map_or(0, |active| {
            blocks(active.length + active.index.size_bound())
        });
        older + active
    }

    /// Drops old entries until `more` bytes are allowed: those of the services
    /// that are over their share.
    fn make_room(&mut self, more: u64) -> Result<(), Error> {
        loop {
            let short = self.used() + blocks(more) > self.allowed;
            let crowded = self.older.len() >= MAX_SEGMENTS;
            if self.older.len() >= self.comfortable() && self.merge() {
                continue;
            }
            if !short && !crowded {
                return Ok(());
            }
            if short && !crowded && self.thin(more)? {
                continue;
            }
            // Early if others took the space that the journal had.
            let early = self.used() > self.allowed;
            if !self.drop_segment(0, early)? {
                return Ok(());
            }
        }
    }

    /// How many segments there are when small ones are merged: twice as many
    /// as full ones fit.
    fn comfortable(&self) -> usize {
        let full = self.allowed / space::segment_size(self.allowed);
        MAX_SEGMENTS.min(2 * full as usize)
    }

    /// Learns what is in the older segments.
    fn measure(&mut self) -> Result<(), Error> {
        let mut position = 0;
        while let Some(older) = self.older.get_mut(position) {
            position += 1;
            if older.content.is_some() {
                continue;
            }
            let segment = Segment::open(&self.directory, older.name);
            let measured = segment.and_then(|segment| match segment {
                Some(mut segment) => index_of(&mut segment).map(Some),
                None => Ok(None),
            });
            // Nothing of one that cannot be read can be kept.
            let (index, end) = measured.ok().flatten().unwrap_or_default();
            older.content = Some(Content {
                usage: usage(&mut self.services, &index, end),
                entries: index.entries(),
            });
            let (name, last) = (older.name, index.span.map(|span| span.last_sequence));
            // Merged into this one, and the power failed before it was removed.
            while let Some(next) = self.older.get(position)
                && next.name.boot == name.boot
                && last.is_some_and(|last| last >= next.name.first)
            {
                let next = next.name;
                self.remove(next)?;
                self.older.remove(position);
            }
        }
        Ok(())
    }

    /// How many bytes each service has to give up for `need` bytes.
    fn excess(&self, need: u64) -> Usage {
        let mut all = Usage::new();
        let older = self.older.iter().filter_map(|older| older.content.as_ref());
        let usages = older.map(|content| &content.usage);
        for usage in usages.chain(self.active.as_ref().map(|active| &active.usage)) {
            for (service, bytes) in usage {
                match all.get_mut(service) {
                    Some(sum) => *sum += bytes,
                    None => drop(all.insert(Arc::clone(service), *bytes)),
                }
            }
        }
        retention::excess(&all, self.limits.kept_longest, need)
    }

    /// Drops the oldest entries of services that are over their share from one
    /// segment. `false` if there is nothing to drop in this way.
    fn thin(&mut self, more: u64) -> Result<bool, Error> {
        self.measure()?;
        let missing = (self.used() + blocks(more)).saturating_sub(self.allowed);
        // Two segments at once: half as many syncs.
        let excess = self.excess(missing + 2 * space::segment_size(self.allowed));
        let worth = |goes: u64, size: u64| goes * WORTH_THINNING >= size;
        let Some((position, goes)) = self.choose(&excess, worth) else {
            return Ok(false);
        };
        let all = self.older[position].content.as_ref();
        let all: u64 = all.map_or(0, |content| content.usage.values().sum());
        // Nothing would be left but, before everything else, word of it.
        if position == 0 && goes >= all {
            return self.drop_segment(0, self.used() > self.allowed);
        }
        let (first, count) = self.with_neighbours(position, &excess);
        match self.rewrite(first, count, &excess) {
            Ok(()) => Ok(true),
            Err(Error::Write { path, source }) if !is_full(&source) => {
                Err(Error::Write { path, source })
            }
            // No space for the rest of it, or it cannot be read.
            Err(_) => self.drop_segment(position, true),
        }
    }

    /// The oldest segment of which enough would go, or else the one of which
    /// most would; and how many bytes.
    fn choose(&self, excess: &Usage, enough: impl Fn(u64, u64) -> bool) -> Option<(usize, u64)> {
        let mut best: Option<(usize, u64)> = None;
        for (position, older) in self.older.iter().enumerate() {
            let usage = older.content.as_ref().map(|content| &content.usage);
            let goes: u64 = usage
                .into_iter()
                .flatten()
                .filter_map(|(service, bytes)| Some(*excess.get(service)?.min(bytes)))
                .sum();
            if goes > 0 && enough(goes, older.size) {
                return Some((position, goes));
            }
            if goes > best.map_or(0, |(_, goes)| goes) {
                best = Some((position, goes));
            }
        }
        best
    }

    /// The segment and those neighbours of its boot with which, without the
    /// excess, it fits into one.
    fn with_neighbours(&self, position: usize, excess: &Usage) -> (usize, usize) {
        let mut left = excess.clone();
        let mut rest = |older: &Older| -> u64 {
            let usage = older.content.as_ref().map(|content| &content.usage);
            let mut goes = 0;
            for (service, bytes) in usage.into_iter().flatten() {
                if let Some(left) = left.get_mut(service) {
                    goes += (*bytes).min(*left);
                    *left = left.saturating_sub(*bytes);
                }
            }
            older.size.saturating_sub(goes)
        };
        let mut size = rest(&self.older[position]);
        let boot = self.older[position].name.boot;
        let bound = space::segment_size(self.allowed);
        let mut end = position + 1;
        while let Some(next) = self.older.get(end).filter(|next| next.name.boot == boot) {
            let with = size.saturating_add(rest(next));
            if with > bound {
                break;
            }
            size = with;
            end += 1;
        }
        let mut first = position;
        while let Some(before) = first.checked_sub(1).map(|before| &self.older[before])
            && before.name.boot == boot
            && size.saturating_add(before.size) <= bound
        {
            size += before.size;
            first -= 1;
        }
        (first, end - first)
    }

    /// Makes one segment of the two smallest neighbours of one boot, if there
    /// are two that fit into one.
    fn merge(&mut self) -> bool {
        let bound = space::segment_size(self.allowed);
        let pairs = self.older.iter().zip(self.older.iter().skip(1));
        let smallest = pairs
            .enumerate()
            .filter(|(_, (one, other))| one.name.boot == other.name.boot)
            .map(|(position, (one, other))| (one.size + other.size, position))
            .filter(|(size, _)| *size <= bound)
            .min();
        smallest.is_some_and(|(_, position)| {
            self.measure().is_ok() && self.rewrite(position, 2, &Usage::new()).is_ok()
        })
    }

    /// Replaces `count` older segments by one without the `excess`.
    fn rewrite(&mut self, position: usize, count: usize, excess: &Usage) -> Result<(), Error> {
        let replaced = self.older.iter().skip(position).take(count);
        let names: Vec<Name> = replaced.map(|older| older.name).collect();
        if names.len() != count {
            // Measuring found that one of them is gone.
            return Err(Error::List {
                directory: self.directory.clone(),
                source: io::ErrorKind::NotFound.into(),
            });
        }
        let services = &mut self.services;
        let mut intern = |service: &str| intern(services, service);
        let thinned = thinning::rewrite(&self.directory, &names, excess, &mut intern)?;
        self.directory_dirty = true;
        for (service, lines) in thinned.dropped {
            *self.thinned.entry(service).or_default() += lines;
        }
        // In order: what follows a segment that is gone is behind or in the one
        // before it.
        for name in names.iter().skip(1) {
            self.remove(*name)?;
            self.older.remove(position + 1);
        }
        if let Some(older) = self.older.get_mut(position) {
            older.size = thinned.size;
            older.content = Some(Content {
                usage: thinned.usage,
                entries: thinned.entries,
            });
        }
        Ok(())
    }

    /// Whether there was one to drop. `early` if only the lack of space causes
    /// it.
    fn drop_segment(&mut self, position: usize, early: bool) -> Result<bool, Error> {
        let Some(dropped) = self.older.get(position) else {
            return Ok(false);
        };
        let next = match (self.older.get(position + 1), &self.active) {
            (Some(older), _) => older.name.first,
            (None, Some(active)) => active.name.first,
            (None, None) => self.next_sequence,
        };
        let (name, content) = (dropped.name, dropped.content.as_ref());
        let entries = content.map_or(next.saturating_sub(name.first), |content| content.entries);
        self.older.remove(position);
        self.remove(name)?;
        if early {
            self.dropped.segments += 1;
            self.dropped.entries += entries;
        }
        Ok(true)
    }

    fn remove(&mut self, name: Name) -> Result<(), Error> {
        let path = name.path(&self.directory);
        self.directory_dirty = true;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::Write {
                path,
                source: error,
            }),
            _ => Ok(()),
        }
    }

    /// Frees space that the file system turned out not to have. Returns whether
    /// there is more now.
    fn free_space(&mut self) -> Result<bool, Error> {
        // There is no room to write a segment without what should go. So one
        // goes of which that is most.
        self.measure()?;
        let largest = self.older.iter().map(|older| older.size).max();
        let excess = self.excess(largest.unwrap_or(0));
        let most = |goes: u64, size: u64| goes * WORTH_THINNING >= size * (WORTH_THINNING - 1);
        let position = self
            .choose(&excess, most)
            .map_or(0, |(position, _)| position);
        let freed = self.drop_segment(position, true)?;
        if freed {
            // Freed blocks are available only once that is on the disk.
            self.sync_directory()?;
        } else {
            self.starved = true;
        }
        self.until_space_check = 0;
        Ok(freed)
    }

    fn sync_directory(&self) -> Result<(), Error> {
        self.directory_file
            .sync_all()
            .map_err(|source| Error::Write {
                path: self.directory.clone(),
                source,
            })
    }

    /// The last resort on a full disk: new lines are worth more than old ones.
    fn give_up_active(&mut self) -> Result<(), Error> {
        if let Some(active) = self.active.take() {
            self.dropped.segments += 1;
            self.dropped.entries += self.next_sequence.saturating_sub(active.name.first);
            drop(active.file);
            self.remove(active.name)?;
            self.sync_directory()?;
        }
        Ok(())
    }

    /// Ends the active segment. One that cannot be sealed is still intact, only
    /// slower to read.
    fn rotate(&mut self) {
        while let Err(Error::Write { source, .. }) = self.seal() {
            if !is_full(&source) || !matches!(self.free_space(), Ok(true)) {
                break;
            }
        }
        if let Some(active) = self.active.take() {
            self.older.push_back(Older {
                name: active.name,
                size: active.length,
                content: Some(Content {
                    entries: active.index.entries(),
                    usage: active.usage,
                }),
            });
        }
    }

    /// Writes the active segment's index behind its entries.
    fn seal(&mut self) -> Result<(), Error> {
        let Some(active) = &mut self.active else {
            return Ok(());
        };
        active.index.kernel_position = self.committed.1;
        let mut seal = Vec::new();
        format::encode_seal(
            &mut seal,
            active.salt,
            active.length,
            &active.index.encode(),
        );
        active.write_all(&seal, &self.directory)?;
        active.file.sync_data().map_err(|source| Error::Write {
            path: active.name.path(&self.directory),
            source,
        })?;
        active.length += seal.len() as u64;
        Ok(())
    }

    /// Starts a new active segment.
    fn begin(&mut self) -> Result<(), Error> {
        self.make_room(format::HEADER_SIZE as u64)?;
        let name = Name {
            boot: self.boot,
            first: self.next_sequence,
        };
        let header = Header {
            boot_id: self.boot_id,
            boot: self.boot,
            first: self.next_sequence,
            kernel_position: self.kernel_position,
            salt: salt(),
        };
        loop {
            match create(&name.path(&self.directory), &header.encode()) {
                Ok(file) => {
                    self.active = Some(Active {
                        name,
                        file,
                        salt: header.salt,
                        length: format::HEADER_SIZE as u64,
                        index: Index::default(),
                        usage: Usage::new(),
                    });
                    self.dirty = true;
                    self.directory_dirty = true;
                    self.starved = false;
                    return Ok(());
                }
                Err(source) => {
                    if !(is_full(&source) && self.free_space()?) {
                        return Err(Error::Write {
                            path: name.path(&self.directory),
                            source,
                        });
                    }
                }
            }
        }
    }

    fn write_buffer(&mut self) -> Result<(), Error> {
        // An eighth more for the growth of the index.
        let size = self.buffer.len() as u64;
        self.make_room(size + size / 8)?;
        loop {
            let Some(active) = &mut self.active else {
                return Ok(()); // a record was pushed: there is one
            };
            match active.write_all(&self.buffer, &self.directory) {
                Ok(()) => break,
                Err(Error::Write { source, .. }) if is_full(&source) && self.free_space()? => {}
                Err(error) => return Err(error),
            }
        }
        if let Some(active) = &mut self.active {
            for (offset, body) in bodies(&self.buffer, active.salt) {
                if let Some(key) = format::decode_key(body) {
                    let size = (format::RECORD_HEADER + body.len()) as u64;
                    match active.usage.get_mut(key.service) {
                        Some(bytes) => *bytes += size,
                        None => {
                            let service = intern(&mut self.services, key.service);
                            active.usage.insert(service, size);
                        }
                    }
                    active.index.add(
                        active.length + offset as u64,
                        key.service,
                        key.level,
                        key.sequence,
                        key.realtime,
                    );
                }
            }
            active.length += self.buffer.len() as u64;
        }
        self.dirty = true;
        self.starved = false;
        self.until_space_check = self
            .until_space_check
            .saturating_sub(self.buffer.len() as u64);
        Ok(())
    }

    /// Finds out where the previous writer stopped.
    fn recover(&mut self) -> Result<(), Error> {
        let mut names = segment::list(&self.directory)?;
        while let Some(&last) = names.last() {
            if self.recover_newest(last)? {
                break;
            }
            names.pop();
        }
        let newest = std::mem::take(&mut self.older);
        let taken_up = |name| {
            self.active
                .as_ref()
                .is_some_and(|active| active.name == name)
                || newest.iter().any(|older| older.name == name)
        };
        names.retain(|name| !taken_up(*name));
        for name in names {
            let path = name.path(&self.directory);
            let size = fs::metadata(&path)
                .map_err(|source| Error::Write { path, source })?
                .len();
            self.older.push_back(Older {
                name,
                size,
                content: None,
            });
        }
        self.older.extend(newest);
        Ok(())
    }

    /// Opens the newest segment: continues in it if it is of this boot,
    /// otherwise seals it. `false` if it was empty and is gone.
    fn recover_newest(&mut self, name: Name) -> Result<bool, Error> {
        let path = name.path(&self.directory);
        let failed = |source| Error::Write {
            path: path.clone(),
            source,
        };
        let open = || segment::open(OpenOptions::new().read(true).write(true), &path);
        let file = open().map_err(failed)?;
        let mut segment = match Segment::from_file(open().map_err(failed)?, &path) {
            Ok(Some(segment)) => segment,
            Ok(None) => {
                // The power failed before its header was on the disk.
                self.remove(name)?;
                return Ok(false);
            }
            Err(Error::Damaged { length, .. }) => {
                // Nothing in it can be read. No number that may be in it is
                // used again: an entry is longer than its record's header.
                self.boot = name.boot.saturating_add(1);
                self.next_sequence = name
                    .first
                    .saturating_add(length / format::RECORD_HEADER as u64);
                return Ok(true);
            }
            Err(error) => return Err(error),
        };
        let header = segment.header;
        let same_boot = header.boot_id == self.boot_id;
        self.boot = header.boot.saturating_add(u64::from(!same_boot));

        let sealed = match segment.seal()? {
            Some((end, Some(index))) => Some((end, index)),
            _ => None,
        };
        let was_sealed = sealed.is_some();
        let (end, index, unfinished) = match sealed {
            Some((end, index)) => (end, index, BTreeMap::new()),
            None => scan(&mut segment, u64::MAX)?,
        };
        self.next_sequence = index
            .span
            .map_or(header.first, |span| span.last_sequence.saturating_add(1));
        if was_sealed && !same_boot {
            return Ok(true);
        }
        if index.span.is_none() && !same_boot {
            // Its boot stored nothing: the number can be used again.
            self.boot = header.boot;
            self.remove(name)?;
            return Ok(false);
        }
        if !was_sealed {
            self.resumed.cut_off = segment.length()? - end;
        }
        file.set_len(end).map_err(failed)?;
        self.kernel_position = index.kernel_position;
        self.committed = (self.next_sequence, index.kernel_position);
        self.active = Some(Active {
            name,
            file,
            salt: header.salt,
            length: end,
            usage: usage(&mut self.services, &index, end),
            index,
        });
        if same_boot {
            self.resumed.unfinished = unfinished;
        } else {
            self.rotate();
            self.kernel_position = 0;
        }
        Ok(true)
    }
}

impl Active {
    /// Writes behind the last record; leaves nothing behind if it fails.
    fn write_all(&mut self, bytes: &[u8], directory: &Path) -> Result<(), Error> {
        self.file
            .write_all_at(bytes, self.length)
            .map_err(|source| {
                // If even this fails, the next write overwrites what is left,
                // or the next start cuts it off.
                let _ = self.file.set_len(self.length);
                Error::Write {
                    path: self.name.path(directory),
                    source,
                }
            })
    }
}

fn lock(directory: &Path) -> Result<Flock<File>, Error> {
    let path = directory.join("lock");
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true);
    let file = segment::open(&mut options, &path).map_err(|source| Error::Write {
        path: path.clone(),
        source,
    })?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Err(Error::Locked {
            directory: directory.to_owned(),
        }),
        Err((_, errno)) => Err(Error::Write {
            path,
            source: errno.into(),
        }),
    }
}

/// Creates a segment's file; leaves nothing behind if that fails.
fn create(path: &Path, header: &[u8]) -> io::Result<File> {
    let file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o640)
        .open(path)?;
    match file.write_all_at(header, 0) {
        Ok(()) => Ok(file),
        Err(error) => {
            let _ = fs::remove_file(path);
            Err(error)
        }
    }
}

/// A service's name, as it is in memory once.
fn intern(services: &mut BTreeSet<Arc<str>>, service: &str) -> Arc<str> {
    if let Some(known) = services.get(service) {
        return Arc::clone(known);
    }
    let new: Arc<str> = Arc::from(service);
    services.insert(Arc::clone(&new));
    new
}

/// How many bytes of entries each service has in a segment.
fn usage(services: &mut BTreeSet<Arc<str>>, index: &Index, end: u64) -> Usage {
    let mut usage = Usage::new();
    for (service, size) in index.sizes(end) {
        match usage.get_mut(service) {
            Some(bytes) => *bytes += size,
            None => drop(usage.insert(intern(services, service), size)),
        }
    }
    usage
}

/// A segment's index and where its entries end: as it was sealed, or else by a
/// scan.
fn index_of(segment: &mut Segment) -> Result<(Index, u64), Error> {
    if let Some((end, Some(index))) = segment.seal()? {
        return Ok((index, end));
    }
    let (end, index, _) = scan(segment, u64::MAX)?;
    Ok((index, end))
}

/// The contents of an unsealed segment before the entry with this number: where
/// its last complete record ends, its index, and which lines are unfinished.
fn scan(
    segment: &mut Segment,
    before: u64,
) -> Result<(u64, Index, BTreeMap<String, Level>), Error> {
    let mut index = Index {
        kernel_position: segment.header.kernel_position,
        ..Index::default()
    };
    let mut unfinished = BTreeMap::new();
    let mut offset = format::HEADER_SIZE as u64;
    loop {
        match segment.find(offset)? {
            Found::Entry(entry, _) if entry.sequence >= before => {
                return Ok((offset, index, unfinished));
            }
            Found::Entry(entry, next) => {
                let time = format::time_to_micros(entry.realtime);
                index.add(offset, &entry.service, entry.level, entry.sequence, time);
                let fields = entry.fields.iter();
                if let Some(position) =
                    kernel_position(fields.map(|(name, value)| (name.as_str(), value.as_slice())))
                {
                    index.kernel_position = position;
                }
                if entry.unfinished {
                    unfinished.insert(entry.service, entry.level);
                } else {
                    unfinished.remove(&entry.service);
                }
                offset = next;
            }
            // An index whose trailer is damaged: it is written again.
            Found::Other(Kind::Index, _) => return Ok((offset, index, unfinished)),
            Found::Other(_, next) | Found::Damage(next) => offset = next,
            Found::End { .. } => return Ok((offset, index, unfinished)),
        }
    }
}

/// The position behind the kernel message with these fields.
fn kernel_position<'a>(fields: impl Iterator<Item = (&'a str, &'a [u8])>) -> Option<u64> {
    let (_, value) = fields
        .into_iter()
        .find(|(name, _)| *name == KERNEL_SEQUENCE)?;
    let sequence: u64 = std::str::from_utf8(value).ok()?.parse().ok()?;
    sequence.checked_add(1)
}

/// Offset and body of each record that was encoded into `buffer`.
fn bodies(buffer: &[u8], salt: u32) -> impl Iterator<Item = (usize, &[u8])> {
    let mut offset = 0;
    std::iter::from_fn(move || {
        let head = buffer.get(offset..offset + format::RECORD_HEADER)?;
        let (_, length) = format::decode_record_header(salt, head)?;
        let start = offset;
        let body = start + format::RECORD_HEADER;
        offset = body + length;
        Some((start, buffer.get(body..offset)?))
    })
}

/// A random number that is not 0: a hole left by a power cut must not look like
/// a record.
pub(crate) fn salt() -> u32 {
    (RandomState::new().build_hasher().finish() as u32).max(1)
}

/// What a file of this length takes on the disk.
fn blocks(length: u64) -> u64 {
    length.next_multiple_of(4096)
}

fn is_full(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}
