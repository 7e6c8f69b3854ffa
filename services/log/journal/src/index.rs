//! A segment's index: which services have entries in it, where, how severe, and
//! over what time
//!
//! The writer maintains it while a segment grows and writes it behind the last
//! entry when the segment is sealed. It is only a hint where to look: without
//! it, or with a damaged one, a reader scans the segment and finds the same.

use std::collections::BTreeMap;

use crate::format::{self, Bytes};
use log_line::Level;

/// What is in one segment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Index {
    pub span: Option<Span>,
    pub services: BTreeMap<String, Postings>,
    /// As [`Header::kernel_position`](format::Header::kernel_position), at
    /// this segment's end.
    pub kernel_position: u64,
}

/// The range of a segment's entries. Times are wall clock, in microseconds
/// since 1970; the first need not be the smallest, because clocks get set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub first_sequence: u64,
    pub last_sequence: u64,
    pub first_time: u64,
    pub last_time: u64,
    pub least_time: u64,
    pub greatest_time: u64,
}

/// Where one service's entries are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Postings {
    pub entries: u64,
    /// Bit n: there is an entry of level n.
    levels: u8,
    /// Each entry's offset as a number: the first from the segment's start,
    /// the others from the one before.
    offsets: Vec<u8>,
    last: u64,
}

impl Index {
    /// Records an entry stored at `offset`, which is behind all earlier ones.
    pub fn add(&mut self, offset: u64, service: &str, level: Level, sequence: u64, time: u64) {
        let span = self.span.get_or_insert(Span {
            first_sequence: sequence,
            last_sequence: sequence,
            first_time: time,
            last_time: time,
            least_time: time,
            greatest_time: time,
        });
        span.last_sequence = sequence;
        span.last_time = time;
        span.least_time = span.least_time.min(time);
        span.greatest_time = span.greatest_time.max(time);

        let service = format::clip(service);
        if !self.services.contains_key(service) {
            self.services
                .insert(service.to_owned(), Postings::default());
        }
        if let Some(postings) = self.services.get_mut(service) {
            postings.entries += 1;
            postings.levels |= 1 << level.number();
            format::encode_number(&mut postings.offsets, offset - postings.last);
            postings.last = offset;
        }
    }

    /// How many entries the segment has.
    pub fn entries(&self) -> u64 {
        self.services
            .values()
            .map(|postings| postings.entries)
            .sum()
    }

    /// How many bytes each service's records take, when the entries end at
    /// `end`.
    pub fn sizes(&self, end: u64) -> impl Iterator<Item = (&str, u64)> {
        let mut starts: Vec<(u64, &str)> = self
            .services
            .iter()
            .flat_map(|(name, postings)| {
                postings
                    .offsets()
                    .map(move |offset| (offset, name.as_str()))
            })
            .collect();
        starts.sort_unstable();
        let ends: Vec<u64> = starts.iter().skip(1).map(|(start, _)| *start).collect();
        starts
            .into_iter()
            .zip(ends.into_iter().chain([end]))
            .map(|((start, name), end)| (name, end.saturating_sub(start)))
    }

    /// At least as many bytes as [`Index::encode`] returns.
    pub fn size_bound(&self) -> u64 {
        let services = self.services.iter().map(|(name, postings)| {
            name.len() + postings.offsets.len() + 32 // three numbers, lengths
        });
        services.sum::<usize>() as u64 + 100 // the other numbers
    }

    /// The body of an index record.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.size_bound() as usize);
        match &self.span {
            None => format::encode_number(&mut out, 0),
            Some(span) => {
                format::encode_number(&mut out, 1);
                for number in [
                    span.first_sequence,
                    span.last_sequence,
                    span.first_time,
                    span.last_time,
                    span.least_time,
                    span.greatest_time,
                ] {
                    format::encode_number(&mut out, number);
                }
            }
        }
        format::encode_number(&mut out, self.kernel_position);
        format::encode_number(&mut out, self.services.len() as u64);
        for (name, postings) in &self.services {
            format::encode_name(&mut out, name);
            out.push(postings.levels);
            format::encode_number(&mut out, postings.entries);
            format::encode_number(&mut out, postings.offsets.len() as u64);
            out.extend_from_slice(&postings.offsets);
        }
        out
    }

    /// The index in a record's body; `None` if it violates the format.
    pub fn decode(body: &[u8]) -> Option<Index> {
        let mut rest = Bytes(body);
        let span = match rest.number()? {
            0 => None,
            _ => Some(Span {
                first_sequence: rest.number()?,
                last_sequence: rest.number()?,
                first_time: rest.number()?,
                last_time: rest.number()?,
                least_time: rest.number()?,
                greatest_time: rest.number()?,
            }),
        };
        let kernel_position = rest.number()?;
        let mut services = BTreeMap::new();
        for _ in 0..rest.number()? {
            let name = rest.name()?.to_owned();
            let levels = rest.u8()?;
            let entries = rest.number()?;
            let length = usize::try_from(rest.number()?).ok()?;
            let mut postings = Postings {
                entries,
                levels,
                offsets: rest.take(length)?.to_owned(),
                last: 0,
            };
            postings.last = postings.offsets().last().unwrap_or(0);
            services.insert(name, postings);
        }
        Some(Index {
            span,
            services,
            kernel_position,
        })
    }
}

impl Postings {
    /// Whether there may be an entry this severe or more severe.
    pub fn reaches(&self, level: Level) -> bool {
        let mask = (1u16 << (level.number() + 1)) - 1;
        u16::from(self.levels) & mask != 0
    }

    /// Where the entries are, in bytes from the segment's start, ascending.
    pub fn offsets(&self) -> impl Iterator<Item = u64> {
        let mut rest = Bytes(&self.offsets);
        let mut offset = 0u64;
        std::iter::from_fn(move || {
            offset = offset.checked_add(rest.number()?)?;
            Some(offset)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_reads_back_as_written() {
        let mut index = Index::default();
        assert_eq!(Index::decode(&index.encode()), Some(index.clone()));
        for number in 0..500u64 {
            let service = ["kernel", "network", "a"][number as usize % 3];
            index.add(
                128 + 50 * number,
                service,
                Level::Info,
                10 + number,
                1000 - number,
            );
        }
        index.add(30_000, "network", Level::Error, 510, 2000);
        let encoded = index.encode();
        assert!(encoded.len() as u64 <= index.size_bound());
        let decoded = Index::decode(&encoded).unwrap();
        assert_eq!(decoded, index);
        assert_eq!(decoded.entries(), 501);
        let span = decoded.span.unwrap();
        assert_eq!((span.first_sequence, span.last_sequence), (10, 510));
        assert_eq!((span.least_time, span.greatest_time), (501, 2000));
        assert_eq!((span.first_time, span.last_time), (1000, 2000));
        let network = &decoded.services["network"];
        assert_eq!(network.offsets().next(), Some(178));
        assert_eq!(network.offsets().last(), Some(30_000));
        assert_eq!(network.offsets().count() as u64, network.entries);
        assert!(network.reaches(Level::Error) && !network.reaches(Level::Critical));
        assert!(!decoded.services["a"].reaches(Level::Error));
    }

    #[test]
    fn a_cut_off_index_is_refused() {
        let mut index = Index::default();
        index.add(128, "network", Level::Info, 1, 1);
        let encoded = index.encode();
        for length in 0..encoded.len() {
            assert_eq!(Index::decode(&encoded[..length]), None, "{length}");
        }
    }
}
