//! Reading a journal, possibly while it is being written
//!
//! Nothing is kept between calls: each one lists the directory, because the
//! writer starts segments and drops old ones at any time. It also writes old
//! ones anew, without entries of a service that is over its share, and makes one
//! of several. For a moment an entry can be in two segments then: the second is
//! ignored. When a segment has disappeared, its entries are looked for in those
//! that there are now; if they are in none, they were dropped.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use crate::entry::{Boot, Entry, Service};
use crate::error::Error;
use crate::follow::Follow;
use crate::format::{self, Kind};
use crate::index::{Index, Span};
use crate::query::{BootSelector, Query};
use crate::segment::{self, Found, Name, Segment};

/// A journal to read.
#[derive(Clone, Debug)]
pub struct Journal {
    directory: PathBuf,
}

impl Journal {
    /// The journal in `directory`. Nothing is read yet; a directory that does
    /// not exist is an empty journal.
    pub fn open(directory: impl Into<PathBuf>) -> Journal {
        Journal {
            directory: directory.into(),
        }
    }

    /// The boots that have entries, oldest first. Damage is ignored.
    pub fn boots(&self) -> Result<Vec<Boot>, Error> {
        let mut boots: Vec<Boot> = Vec::new();
        for name in segment::list(&self.directory)? {
            let Some(mut segment) = passable(Segment::open(&self.directory, name))? else {
                continue;
            };
            let index = index(&mut segment)?;
            let Some(span) = index.span else { continue };
            let (Some(first), Some(last)) = (
                format::micros_to_time(span.first_time),
                format::micros_to_time(span.last_time),
            ) else {
                continue;
            };
            match boots.last_mut().filter(|boot| boot.index == name.boot) {
                Some(boot) => {
                    boot.last = last;
                    boot.sequences.1 = span.last_sequence;
                    boot.entries += index.entries();
                }
                None => boots.push(Boot {
                    index: name.boot,
                    id: segment.header.boot_id,
                    sequences: (span.first_sequence, span.last_sequence),
                    first,
                    last,
                    entries: index.entries(),
                }),
            }
        }
        Ok(boots)
    }

    /// The services that have entries, by name. Damage is ignored.
    pub fn services(&self) -> Result<Vec<Service>, Error> {
        let mut services: BTreeMap<String, Service> = BTreeMap::new();
        for name in segment::list(&self.directory)? {
            let Some(mut segment) = passable(Segment::open(&self.directory, name))? else {
                continue;
            };
            for (service, postings) in index(&mut segment)?.services {
                let known = services.entry(service).or_insert_with_key(|name| Service {
                    name: name.clone(),
                    entries: 0,
                    last_boot: 0,
                });
                known.entries += postings.entries;
                known.last_boot = name.boot;
            }
        }
        Ok(services.into_values().collect())
    }

    /// The entries that a query wants, in the order of their sequence numbers,
    /// up to the newest at this time.
    pub fn entries(&self, query: &Query) -> Result<Entries, Error> {
        Entries::begin(&self.directory, query)
    }

    /// Like [`Journal::entries`], and then each new entry that the query wants.
    pub fn follow(&self, query: &Query) -> Result<Follow, Error> {
        Follow::begin(&self.directory, query)
    }
}

/// The entries of a query, read one after the other.
///
/// An error that [is damage](Error::is_damage) says what was skipped, and the
/// next entries follow; after any other error there are no more entries.
pub struct Entries {
    directory: PathBuf,
    query: Query,
    /// Found already, because only the last N were requested.
    chosen: VecDeque<Chosen>,
    /// Segments still to be read.
    segments: VecDeque<Name>,
    cursor: Option<Cursor>,
    /// Where reading ended: the last segment read, the offset behind its last
    /// complete record, and the sequence number of the last entry looked at.
    reached: Option<(Name, u64, u64)>,
    /// The journal's newest segment: only its end may still be being written.
    newest: Option<Name>,
    /// Boot and sequence number of the last entry returned.
    last: Option<(u64, u64)>,
    /// Entries up to this number were in the segments before this one.
    passed: Option<u64>,
}

enum Chosen {
    /// Its segment, its offset there, its sequence number.
    Entry(Name, u64, u64),
    Damage(Error),
}

impl Entries {
    pub(crate) fn begin(directory: &Path, query: &Query) -> Result<Entries, Error> {
        let segments = segment::list(directory)?;
        let newest = segments.last().copied();
        let segments = wanted_segments(directory, query, segments)?;
        let mut entries = Entries {
            directory: directory.to_owned(),
            query: query.clone(),
            chosen: VecDeque::new(),
            segments,
            cursor: None,
            reached: None,
            newest,
            last: None,
            passed: None,
        };
        if let Some(count) = query.tail {
            entries.choose(count)?;
        }
        Ok(entries)
    }

    /// Looks for the last `count` entries, newest segment first.
    fn choose(&mut self, count: usize) -> Result<(), Error> {
        let mut missing = count;
        // In newer segments of the same boot are those from this number on.
        let mut before: Option<(u64, u64)> = None;
        while let Some(name) = self.segments.pop_back() {
            // The last one is read even if nothing is wanted: a follower
            // continues at its end.
            if missing == 0 && self.reached.is_some() {
                break;
            }
            let mut found = VecDeque::new();
            match Cursor::open(&self.directory, name, &self.query) {
                Ok(None) => continue,
                Ok(Some(mut cursor)) => {
                    let mut entries = 0;
                    loop {
                        match cursor.next(&self.query, Some(name) == self.newest)? {
                            Next::Entry(entry, offset)
                                if before.is_none_or(|(boot, sequence)| {
                                    entry.boot != boot || entry.sequence < sequence
                                }) =>
                            {
                                entries += 1;
                                found.push_back(Chosen::Entry(name, offset, entry.sequence));
                            }
                            // In a newer segment too.
                            Next::Entry(..) => {}
                            Next::Damage(damage) => found.push_back(Chosen::Damage(damage)),
                            Next::End => break,
                        }
                        while entries > missing {
                            if let Some(Chosen::Entry(..)) = found.pop_front() {
                                entries -= 1;
                            }
                        }
                    }
                    missing -= entries;
                    self.reached = self.reached.or(Some((name, cursor.end, cursor.last)));
                }
                Err(error) if error.is_damage() => found.push_back(Chosen::Damage(error)),
                Err(error) => return Err(error),
            }
            while let Some(chosen) = found.pop_back() {
                if let Chosen::Entry(_, _, sequence) = chosen {
                    before = Some((name.boot, sequence));
                }
                self.chosen.push_front(chosen);
            }
        }
        self.segments.clear();
        Ok(())
    }

    /// Where a follower continues.
    pub(crate) fn reached(&self) -> Option<(Name, u64, u64)> {
        self.reached
    }

    fn read_chosen(
        &mut self,
        name: Name,
        offset: u64,
        sequence: u64,
    ) -> Result<Option<Entry>, Error> {
        if self
            .cursor
            .as_ref()
            .is_none_or(|cursor| cursor.name != name)
        {
            let segment = passable(Segment::open(&self.directory, name))?;
            self.cursor = segment.map(|segment| Cursor::whole(name, segment));
        }
        if let Some(cursor) = &mut self.cursor
            && let Found::Entry(entry, _) = cursor.segment.find(offset)?
            && entry.sequence == sequence
        {
            return Ok(Some(*entry));
        }
        // The segment was written anew since.
        self.cursor = None;
        let boot = Query {
            boot: Some(BootSelector::Index(name.boot)),
            after: sequence.checked_sub(1),
            ..Query::default()
        };
        let found = match Entries::begin(&self.directory, &boot) {
            Ok(mut entries) => entries.advance()?,
            Err(Error::NoSuchBoot(_)) => None,
            Err(error) => return Err(error),
        };
        Ok(found.filter(|entry| entry.sequence == sequence))
    }

    /// The sequence number of the last entry of this boot that was returned.
    fn last_of(&self, boot: u64) -> Option<u64> {
        let (of, sequence) = self.last?;
        (of == boot).then_some(sequence)
    }

    /// The segment `gone` has disappeared: its entries may be in another one.
    fn look_again(&mut self, gone: Name) -> Result<(), Error> {
        let listed = segment::list(&self.directory)?;
        // If it is there, its header is not written yet.
        if listed.contains(&gone) {
            return Ok(());
        }
        let query = Query {
            boot: Some(BootSelector::Index(gone.boot)),
            after: self.last_of(gone.boot).max(self.query.after),
            ..Query::default()
        };
        match wanted_segments(&self.directory, &query, listed) {
            Ok(segments) => {
                self.segments.retain(|name| name.boot != gone.boot);
                for name in segments.into_iter().rev() {
                    self.segments.push_front(name);
                }
                Ok(())
            }
            // All of the boot was dropped.
            Err(Error::NoSuchBoot(_)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn advance(&mut self) -> Result<Option<Entry>, Error> {
        while let Some(chosen) = self.chosen.pop_front() {
            match chosen {
                Chosen::Damage(error) => return Err(error),
                Chosen::Entry(name, offset, sequence) => {
                    if let Some(entry) = self.read_chosen(name, offset, sequence)? {
                        return Ok(Some(entry));
                    }
                }
            }
        }
        if self.query.tail.is_some() {
            return Ok(None);
        }
        loop {
            if let Some(cursor) = &mut self.cursor {
                let growing = Some(cursor.name) == self.newest;
                let next = cursor.next(&self.query, growing)?;
                self.reached = Some((cursor.name, cursor.end, cursor.last));
                match next {
                    // In an older segment too.
                    Next::Entry(entry, _)
                        if self.passed.is_some_and(|passed| entry.sequence <= passed) =>
                    {
                        continue;
                    }
                    Next::Entry(entry, _) => {
                        self.last = Some((entry.boot, entry.sequence));
                        return Ok(Some(*entry));
                    }
                    Next::Damage(damage) => return Err(damage),
                    Next::End => self.cursor = None,
                }
            }
            let Some(name) = self.segments.pop_front() else {
                return Ok(None);
            };
            self.passed = self.last_of(name.boot);
            self.cursor = Cursor::open(&self.directory, name, &self.query)?;
            if self.cursor.is_none() {
                self.look_again(name)?;
            }
        }
    }
}

impl Iterator for Entries {
    type Item = Result<Entry, Error>;

    fn next(&mut self) -> Option<Result<Entry, Error>> {
        match self.advance() {
            Ok(entry) => entry.map(Ok),
            Err(error) => {
                if !error.is_damage() {
                    self.chosen.clear();
                    self.segments.clear();
                    self.cursor = None;
                }
                Some(Err(error))
            }
        }
    }
}

/// What a cursor finds.
pub(crate) enum Next {
    /// A wanted entry, and its offset.
    Entry(Box<Entry>, u64),
    /// Bytes that cannot be read.
    Damage(Error),
    /// Nothing more for now.
    End,
}

/// Goes through one segment's wanted entries.
pub(crate) struct Cursor {
    name: Name,
    segment: Segment,
    /// Where the wanted services' entries are, from a sealed segment's index.
    postings: Option<VecDeque<u64>>,
    /// Where the entries of a sealed segment end.
    limit: Option<u64>,
    /// Behind the last record that was read.
    end: u64,
    /// The sequence number of the last entry that was read, wanted or not.
    pub(crate) last: u64,
}

impl Cursor {
    /// A cursor at the segment's start. `None` if it is gone or nothing in it
    /// is wanted.
    fn open(directory: &Path, name: Name, query: &Query) -> Result<Option<Cursor>, Error> {
        let Some(mut segment) = Segment::open(directory, name)? else {
            return Ok(None);
        };
        let seal = segment.seal()?;
        let mut cursor = Cursor::whole(name, segment);
        if let Some((end, index)) = seal {
            cursor.limit = Some(end);
            if let Some(index) = index {
                if index.span.is_none_or(|span| !may_want(query, &span)) {
                    cursor.postings = Some(VecDeque::new());
                } else if !query.services.is_empty() || query.level.is_some() {
                    cursor.postings = Some(wanted_offsets(&index, query));
                }
            }
        }
        Ok(Some(cursor))
    }

    /// A cursor over everything in a segment.
    pub(crate) fn whole(name: Name, segment: Segment) -> Cursor {
        Cursor::at(name, segment, format::HEADER_SIZE as u64)
    }

    pub(crate) fn at(name: Name, segment: Segment, offset: u64) -> Cursor {
        Cursor {
            name,
            segment,
            postings: None,
            limit: None,
            end: offset,
            last: 0,
        }
    }

    /// Discards what was read ahead: the writer may have cut it off.
    pub(crate) fn refresh(&mut self) {
        self.segment.refresh();
    }

    /// The next item. At the end of a `growing` segment there may be part of a
    /// record that is being written.
    pub(crate) fn next(&mut self, query: &Query, growing: bool) -> Result<Next, Error> {
        loop {
            let offset = match &mut self.postings {
                Some(postings) => match postings.pop_front() {
                    // Inside damage that was already reported.
                    Some(offset) if offset < self.end => continue,
                    Some(offset) => offset,
                    None => {
                        self.end = self.limit.unwrap_or(self.end);
                        return Ok(Next::End);
                    }
                },
                None => self.end,
            };
            if self.limit.is_some_and(|limit| offset >= limit) {
                return Ok(Next::End);
            }
            match self.segment.find(offset)? {
                Found::Entry(entry, next) => {
                    self.end = next;
                    self.last = entry.sequence;
                    if query.wants(&entry) {
                        return Ok(Next::Entry(entry, offset));
                    }
                }
                Found::Other(Kind::Index, _) => return Ok(Next::End),
                Found::Other(_, next) => self.end = next,
                Found::Damage(next) => {
                    let next = self.limit.map_or(next, |limit| next.min(limit));
                    self.end = next;
                    return Ok(Next::Damage(self.segment.damage(offset, next)));
                }
                Found::End { torn } => {
                    let end = match self.limit {
                        Some(limit) => limit,
                        None if torn && !growing => self.segment.length()?,
                        None => return Ok(Next::End),
                    };
                    self.end = end;
                    return Ok(Next::Damage(self.segment.damage(offset, end)));
                }
            }
        }
    }
}

/// Whether entries in this range can be wanted.
fn may_want(query: &Query, span: &Span) -> bool {
    let since = query.since.map_or(0, format::time_to_micros);
    let until = query.until.map_or(u64::MAX, format::time_to_micros);
    span.greatest_time >= since
        && span.least_time <= until
        && query.after.is_none_or(|after| span.last_sequence > after)
}

/// Where wanted entries may be, ascending.
fn wanted_offsets(index: &Index, query: &Query) -> VecDeque<u64> {
    let mut offsets: Vec<u64> = index
        .services
        .iter()
        .filter(|(name, _)| query.wants_service(name))
        .filter(|(_, postings)| query.level.is_none_or(|level| postings.reaches(level)))
        .flat_map(|(_, postings)| postings.offsets())
        .collect();
    offsets.sort_unstable();
    offsets.into()
}

/// Those segments of a journal, oldest first, that a query concerns by their
/// names.
fn wanted_segments(
    directory: &Path,
    query: &Query,
    mut segments: Vec<Name>,
) -> Result<VecDeque<Name>, Error> {
    if let Some(selector) = query.boot {
        match resolve(directory, &segments, selector)? {
            Some(boot) => segments.retain(|name| name.boot == boot),
            // Nothing was stored yet, in this boot or any.
            None if selector == BootSelector::Back(0) => segments.clear(),
            None => return Err(Error::NoSuchBoot(selector)),
        }
    }
    if let Some(after) = query.after {
        // A segment can be skipped entirely if the next one starts at or before
        // the first wanted entry.
        let passed = segments
            .windows(2)
            .take_while(|pair| pair[1].first <= after.saturating_add(1))
            .count();
        segments.drain(..passed);
    }
    Ok(segments.into())
}

/// The number of the boot that a person named.
pub(crate) fn resolve(
    directory: &Path,
    segments: &[Name],
    selector: BootSelector,
) -> Result<Option<u64>, Error> {
    let mut boots: Vec<u64> = segments.iter().map(|name| name.boot).collect();
    boots.dedup();
    Ok(match selector {
        BootSelector::Back(back) => usize::try_from(back)
            .ok()
            .and_then(|back| boots.iter().rev().nth(back).copied()),
        BootSelector::Index(index) => boots.contains(&index).then_some(index),
        BootSelector::Id(id) => {
            let mut found = None;
            for name in segments.iter().rev() {
                let segment = passable(Segment::open(directory, *name))?;
                if segment.is_some_and(|segment| segment.header.boot_id == id) {
                    found = Some(name.boot);
                    break;
                }
            }
            found
        }
    })
}

/// A segment whose header is damaged is treated as missing.
fn passable(segment: Result<Option<Segment>, Error>) -> Result<Option<Segment>, Error> {
    match segment {
        Err(error) if error.is_damage() => Ok(None),
        other => other,
    }
}

/// A segment's index: the one it was sealed with, or one made by scanning.
fn index(segment: &mut Segment) -> Result<Index, Error> {
    if let Some((_, Some(index))) = segment.seal()? {
        return Ok(index);
    }
    let mut index = Index::default();
    let mut offset = format::HEADER_SIZE as u64;
    loop {
        match segment.find(offset)? {
            Found::Entry(entry, next) => {
                let time = format::time_to_micros(entry.realtime);
                index.add(offset, &entry.service, entry.level, entry.sequence, time);
                offset = next;
            }
            Found::Other(Kind::Index, _) | Found::End { .. } => return Ok(index),
            Found::Other(_, next) | Found::Damage(next) => offset = next,
        }
    }
}
