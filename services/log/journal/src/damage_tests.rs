//! What power cuts and bad disks do to a journal, and what survives

use std::fs;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::journal_tests::{BOOT, OTHER_BOOT, line, open, paths, read, size, store, texts};
use crate::segment::Name;
use crate::{Entry, Journal, Level, Query};

/// A journal with one segment as a crash leaves it, its bytes, and where each
/// record ends.
fn crashed(lines: u64) -> (TempDir, PathBuf, Vec<u8>, Vec<usize>) {
    let directory = TempDir::new().unwrap();
    let mut writer = open(directory.path(), BOOT);
    let mut ends = Vec::new();
    for number in 0..lines {
        let service = ["kernel", "network"][number as usize % 2];
        store(&mut writer, service, number, &format!("line {number}"));
        ends.push(size(directory.path()) as usize);
    }
    drop(writer);
    let path = paths(directory.path()).remove(0);
    let bytes = fs::read(&path).unwrap();
    (directory, path, bytes, ends)
}

#[test]
fn a_torn_tail_is_cut_off_at_every_byte() {
    let (directory, path, bytes, ends) = crashed(6);
    let name = Name::parse(path.file_name().unwrap().to_str().unwrap()).unwrap();
    for length in 0..=bytes.len() {
        let whole = ends.iter().filter(|end| **end <= length).count();
        for boot in [BOOT, OTHER_BOOT] {
            for path in paths(directory.path()) {
                fs::remove_file(path).unwrap();
            }
            fs::write(name.path(directory.path()), &bytes[..length]).unwrap();
            // A reader takes the torn record for one that is being written.
            assert_eq!(texts(directory.path(), &Query::default()).len(), whole);
            let mut writer = open(directory.path(), boot);
            store(&mut writer, "network", 99, "after");
            let (entries, damages) = read(directory.path(), &Query::default());
            assert!(damages.is_empty(), "{length}: {damages:?}");
            assert_eq!(entries.len(), whole + 1, "{length}");
            assert_eq!(entries[whole].text(), "after");
            let sequences: Vec<u64> = entries.iter().map(|entry| entry.sequence).collect();
            assert_eq!(sequences, (1..=whole as u64 + 1).collect::<Vec<_>>());
            let fresh = boot == OTHER_BOOT && whole > 0;
            assert_eq!(entries[whole].boot, 1 + u64::from(fresh), "{length}");
        }
    }
}

#[test]
fn garbage_behind_the_last_record_is_cut_off() {
    let (directory, path, bytes, _) = crashed(6);
    for garbage in [vec![0; 5000], vec![0xff; 300], bytes[128..150].to_vec()] {
        fs::write(&path, [bytes.as_slice(), &garbage].concat()).unwrap();
        let mut writer = open(directory.path(), BOOT);
        assert_eq!(writer.resumed().cut_off, garbage.len() as u64);
        store(&mut writer, "network", 99, "after");
        drop(writer);
        let texts = texts(directory.path(), &Query::default());
        assert_eq!(texts.len(), 7);
        assert_eq!(texts[6], "after");
    }
}

/// Sealed and unsealed, each byte changed in turn: only the record that it
/// belongs to may be lost, and the loss is reported.
#[test]
fn a_damaged_byte_costs_the_record_it_is_in() {
    for sealed in [false, true] {
        let (directory, path, _, ends) = crashed(6);
        if sealed {
            open(directory.path(), BOOT).close().unwrap();
        }
        let bytes = fs::read(&path).unwrap();
        for position in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut damaged = bytes.clone();
                damaged[position] ^= change;
                fs::write(&path, &damaged).unwrap();
                let touched = ends.iter().position(|end| position < *end);
                let touched = touched.filter(|_| position >= 128);
                let expected: Vec<String> = (0..6)
                    .filter(|number| Some(*number) != touched)
                    .map(|number| format!("line {number}"))
                    .collect();
                let (entries, damages) = read(directory.path(), &Query::default());
                let found: Vec<_> = entries.iter().map(Entry::text).collect();
                assert_eq!(found, expected, "byte {position}");
                // Damage to the last record of a segment that is still being
                // written looks like a record still being written.
                let told = touched.is_some_and(|number| sealed || number < 5);
                assert_eq!(damages.len(), usize::from(told), "byte {position}");
                for service in ["kernel", "network"] {
                    let query = Query {
                        services: vec![service.into()],
                        ..Query::default()
                    };
                    let of_service = entries.iter().filter(|entry| entry.service == service);
                    assert!(read(directory.path(), &query).0.iter().eq(of_service));
                }
                let journal = Journal::open(directory.path());
                assert_eq!(journal.boots().unwrap().len(), 1);
                journal.services().unwrap();
            }
        }
    }
}

#[test]
fn a_segment_without_a_header_is_told_of_and_its_numbers_are_not_used_again() {
    let (directory, path, mut bytes, _) = crashed(6);
    bytes[..128].fill(0);
    fs::write(&path, &bytes).unwrap();
    let mut writer = open(directory.path(), OTHER_BOOT);
    store(&mut writer, "network", 99, "after");
    let (entries, damages) = read(directory.path(), &Query::default());
    assert_eq!(entries.len(), 1);
    assert!(entries[0].sequence > 6);
    assert_eq!(damages.len(), 1);
}

#[test]
fn a_line_cannot_forge_a_record() {
    let (_elsewhere, _, forged, _) = crashed(3);
    let directory = TempDir::new().unwrap();
    let mut writer = open(directory.path(), BOOT);
    store(&mut writer, "network", 1, "before");
    writer.push(&line("evil", Level::Info, 1, &forged)).unwrap();
    writer.commit().unwrap();
    let end = size(directory.path()) as usize;
    store(&mut writer, "network", 1, "after");
    drop(writer);
    let path = paths(directory.path()).remove(0);
    let mut bytes = fs::read(&path).unwrap();
    // Damage the record around the forged ones.
    bytes[end - 1] ^= 1;
    fs::write(&path, bytes).unwrap();
    let (entries, damages) = read(directory.path(), &Query::default());
    let found: Vec<_> = entries.iter().map(Entry::text).collect();
    assert_eq!(found, ["before", "after"]);
    assert_eq!(damages.len(), 1);
}

/// A small generator (xorshift): the same numbers in each run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % bound.max(1) as u64) as usize
    }
}

/// Damages bytes as disks, power cuts and careless copies do.
fn spoil(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    for _ in 0..=numbers.below(4) {
        let at = numbers.below(bytes.len());
        let length = numbers.below(bytes.len() - at).min(1 << numbers.below(14));
        match numbers.below(6) {
            0 => bytes.truncate(at),
            1 => bytes[at..at + length].fill(0),
            2 => bytes[at..at + length].fill(0xff),
            3 => bytes.copy_within(at..at + length, numbers.below(at + 1)),
            4 => {
                bytes.drain(at..at + length);
            }
            _ => {
                for byte in &mut bytes[at..at + length] {
                    *byte = numbers.below(256) as u8;
                }
            }
        }
        if bytes.is_empty() {
            return;
        }
    }
}

#[test]
fn whatever_happens_to_the_bytes_no_entry_is_made_up() {
    for sealed in [false, true] {
        let (directory, path, _, _) = crashed(200);
        if sealed {
            open(directory.path(), BOOT).close().unwrap();
        }
        let bytes = fs::read(&path).unwrap();
        let (written, _) = read(directory.path(), &Query::default());
        let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
        for round in 0..300 {
            let mut damaged = bytes.clone();
            spoil(&mut damaged, &mut numbers);
            for path in paths(directory.path()) {
                fs::remove_file(path).unwrap();
            }
            fs::write(&path, damaged).unwrap();
            for query in [
                Query::default(),
                Query {
                    services: vec!["kernel".into()],
                    ..Query::default()
                },
                Query {
                    tail: Some(10),
                    level: Some(Level::Info),
                    ..Query::default()
                },
            ] {
                let (entries, _) = read(directory.path(), &query);
                assert!(
                    entries.iter().all(|entry| written.contains(entry)),
                    "round {round}"
                );
            }
            let journal = Journal::open(directory.path());
            journal.boots().unwrap();
            journal.services().unwrap();
            // The next writer copes with it, and readers find what it writes.
            let boot = [BOOT, OTHER_BOOT][round % 2];
            let mut writer = open(directory.path(), boot);
            store(&mut writer, "network", 99, "after");
            let (entries, _) = read(directory.path(), &Query::default());
            assert!(
                entries.iter().any(|entry| entry.text() == "after"),
                "round {round}"
            );
        }
    }
}
