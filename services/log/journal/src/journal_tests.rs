//! The writer and the readers together, on real files

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::TempDir;

use crate::segment;
use crate::{BootId, BootSelector, Entry, Error, Journal, Level, Limits, Query, Record, Writer};

pub const BOOT: BootId = BootId([1; 16]);
pub const OTHER_BOOT: BootId = BootId([2; 16]);
/// Never short of space, whatever disk the tests run on.
pub const LIMITS: Limits = Limits {
    max_bytes: 32 << 20,
    keep_free_bytes: 0,
    keep_free_percent: 0,
    kept_longest: &["kernel"],
};

pub fn open(directory: &Path, boot: BootId) -> Writer {
    Writer::open(directory, boot, LIMITS).unwrap()
}

pub fn line<'a>(service: &'a str, level: Level, at: u64, message: &'a [u8]) -> Record<'a> {
    Record {
        service,
        level,
        realtime: SystemTime::UNIX_EPOCH + Duration::from_secs(at),
        monotonic: Duration::from_millis(at),
        unfinished: false,
        message,
        fields: &[],
    }
}

pub fn store(writer: &mut Writer, service: &str, at: u64, message: &str) {
    let record = line(service, Level::Info, at, message.as_bytes());
    writer.push(&record).unwrap();
    writer.commit().unwrap();
}

/// Entries and damages of a query.
pub fn read(directory: &Path, query: &Query) -> (Vec<Entry>, Vec<Error>) {
    let (mut entries, mut damages) = (Vec::new(), Vec::new());
    for next in Journal::open(directory).entries(query).unwrap() {
        match next {
            Ok(entry) => entries.push(entry),
            Err(error) => {
                assert!(error.is_damage(), "{error}");
                damages.push(error);
            }
        }
    }
    (entries, damages)
}

pub fn texts(directory: &Path, query: &Query) -> Vec<String> {
    let (entries, damages) = read(directory, query);
    assert!(damages.is_empty(), "{damages:?}");
    entries
        .iter()
        .map(|entry| entry.text().into_owned())
        .collect()
}

pub fn paths(directory: &Path) -> Vec<PathBuf> {
    let names = segment::list(directory).unwrap();
    names.iter().map(|name| name.path(directory)).collect()
}

pub fn size(directory: &Path) -> u64 {
    let sizes = paths(directory)
        .into_iter()
        .map(|path| fs::metadata(path).unwrap().len());
    sizes.sum()
}

/// Three boots, the first with several segments, three services, two levels.
/// The journal is left as after a crash.
fn three_boots() -> TempDir {
    let directory = TempDir::new().unwrap();
    for (boot, count) in [(1u8, 3000u64), (2, 10), (3, 400)] {
        let limits = Limits {
            max_bytes: 1 << 20,
            ..LIMITS
        };
        let mut writer = Writer::open(directory.path(), BootId([boot; 16]), limits).unwrap();
        for number in 0..count {
            let service = ["kernel", "network", "console"][number as usize % 3];
            let level = if number % 50 == 7 {
                Level::Error
            } else {
                Level::Info
            };
            let text = format!("line {number} of boot {boot} {}", "x".repeat(40));
            let at = u64::from(boot) * 100_000 + number;
            writer
                .push(&line(service, level, at, text.as_bytes()))
                .unwrap();
            if number % 5 == 0 {
                writer.commit().unwrap();
            }
        }
        writer.commit().unwrap();
    }
    directory
}

#[test]
fn what_is_stored_is_read_in_order() {
    let directory = TempDir::new().unwrap();
    let mut writer = open(directory.path(), BOOT);
    store(&mut writer, "network", 5, "one");
    store(&mut writer, "console", 4, "two");
    store(&mut writer, "network", 3, "three");
    let (entries, damages) = read(directory.path(), &Query::default());
    assert!(damages.is_empty());
    let told: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry.sequence,
                entry.boot,
                entry.service.as_str(),
                entry.text(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            (1, 1, "network", "one".into()),
            (2, 1, "console", "two".into()),
            (3, 1, "network", "three".into())
        ]
    );
    assert_eq!(entries[0].boot_id, BOOT);
}

#[test]
fn a_journal_that_is_not_there_is_empty() {
    let directory = TempDir::new().unwrap();
    let nowhere = directory.path().join("nowhere");
    assert!(texts(&nowhere, &Query::default()).is_empty());
    assert!(Journal::open(&nowhere).boots().unwrap().is_empty());
    assert!(Journal::open(&nowhere).services().unwrap().is_empty());
    let of = |boot| Query {
        boot: Some(boot),
        ..Query::default()
    };
    assert!(texts(&nowhere, &of(BootSelector::Back(0))).is_empty());
    assert!(matches!(
        Journal::open(&nowhere).entries(&of(BootSelector::Back(1))),
        Err(Error::NoSuchBoot(BootSelector::Back(1)))
    ));
}

#[test]
fn an_uncommitted_record_is_not_stored() {
    let directory = TempDir::new().unwrap();
    let mut writer = open(directory.path(), BOOT);
    store(&mut writer, "network", 1, "stored");
    writer
        .push(&line("network", Level::Info, 1, b"not stored"))
        .unwrap();
    drop(writer);
    assert_eq!(texts(directory.path(), &Query::default()), ["stored"]);
}

#[test]
fn rolled_back_entries_are_gone_and_their_numbers_are_given_again() {
    let directory = TempDir::new().unwrap();
    let mut writer = open(directory.path(), BOOT);
    for number in 1..=5 {
        store(&mut writer, ["a", "b"][number % 2], 1, &format!("{number}"));
    }
    writer.roll_back(6).unwrap();
    writer.roll_back(4).unwrap();
    assert_eq!(writer.next_sequence(), 4);
    assert_eq!(texts(directory.path(), &Query::default()), ["1", "2", "3"]);
    store(&mut writer, "a", 1, "again");
    writer.close().unwrap();
    let query = Query {
        services: vec!["a".into()],
        ..Query::default()
    };
    assert_eq!(texts(directory.path(), &query), ["2", "again"]);
    let (entries, _) = read(directory.path(), &Query::default());
    assert_eq!(entries[3].sequence, 4);
}

#[test]
fn a_second_writer_is_refused() {
    let directory = TempDir::new().unwrap();
    let writer = open(directory.path(), BOOT);
    assert!(matches!(
        Writer::open(directory.path(), BOOT, LIMITS),
        Err(Error::Locked { .. })
    ));
    drop(writer);
    open(directory.path(), BOOT);
}

#[test]
fn a_restarted_writer_goes_on_in_its_boots_segment() {
    let directory = TempDir::new().unwrap();
    for round in 0..6 {
        let mut writer = open(directory.path(), BOOT);
        store(&mut writer, "network", round, &format!("round {round}"));
        // Every other round ends as a crash does.
        if round % 2 == 0 {
            writer.close().unwrap();
        }
    }
    assert_eq!(paths(directory.path()).len(), 1);
    let (entries, damages) = read(directory.path(), &Query::default());
    assert!(damages.is_empty());
    let sequences: Vec<u64> = entries.iter().map(|entry| entry.sequence).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 6]);
    assert!(entries.iter().all(|entry| entry.boot == 1));
}

#[test]
fn a_boot_that_stored_nothing_leaves_no_trace() {
    let directory = TempDir::new().unwrap();
    store(&mut open(directory.path(), BOOT), "network", 1, "first");
    for boot in 10..20 {
        open(directory.path(), BootId([boot; 16])).close().unwrap();
    }
    store(
        &mut open(directory.path(), OTHER_BOOT),
        "network",
        2,
        "second",
    );
    assert_eq!(paths(directory.path()).len(), 2);
    let boots = Journal::open(directory.path()).boots().unwrap();
    assert_eq!(
        boots.iter().map(|boot| boot.index).collect::<Vec<_>>(),
        [1, 2]
    );
}

#[test]
fn boots_and_services_are_counted() {
    let directory = three_boots();
    let journal = Journal::open(directory.path());
    let boots = journal.boots().unwrap();
    let told: Vec<_> = boots
        .iter()
        .map(|boot| (boot.index, boot.id, boot.entries, boot.sequences))
        .collect();
    assert_eq!(
        told,
        [
            (1, BootId([1; 16]), 3000, (1, 3000)),
            (2, BootId([2; 16]), 10, (3001, 3010)),
            (3, BootId([3; 16]), 400, (3011, 3410))
        ]
    );
    let at = |second| SystemTime::UNIX_EPOCH + Duration::from_secs(second);
    assert_eq!((boots[0].first, boots[0].last), (at(100_000), at(102_999)));
    let services = journal.services().unwrap();
    let told: Vec<_> = services
        .iter()
        .map(|service| (service.name.as_str(), service.entries, service.last_boot))
        .collect();
    assert_eq!(
        told,
        [
            ("console", 1136, 3),
            ("kernel", 1138, 3),
            ("network", 1136, 3)
        ]
    );
}

/// Every kind of query, through the index and by a full scan.
#[test]
fn the_index_finds_what_a_full_scan_finds() {
    let directory = three_boots();
    let (all, _) = read(directory.path(), &Query::default());
    assert_eq!(all.len(), 3410);
    assert!(
        paths(directory.path()).len() > 4,
        "several segments of boot 1"
    );
    let at = |second| Some(SystemTime::UNIX_EPOCH + Duration::from_secs(second));
    let boots = [
        (None, None),
        (Some(BootSelector::Back(0)), Some(3)),
        (Some(BootSelector::Back(2)), Some(1)),
        (Some(BootSelector::Index(2)), Some(2)),
        (Some(BootSelector::Id(BootId([1; 16]))), Some(1)),
    ];
    for services in [
        vec![],
        vec!["network"],
        vec!["kernel", "console"],
        vec!["nobody"],
    ] {
        for (boot, index) in boots {
            for level in [None, Some(Level::Error), Some(Level::Critical)] {
                for (since, until) in [
                    (None, None),
                    (at(101_000), at(102_000)),
                    (at(300_100), None),
                ] {
                    for (after, tail) in [
                        (None, None),
                        (Some(1500), None),
                        (None, Some(7)),
                        (None, Some(2000)),
                    ] {
                        let query = Query {
                            services: services.iter().map(|name| (*name).to_owned()).collect(),
                            boot,
                            since,
                            until,
                            level,
                            after,
                            tail,
                        };
                        let mut expected: Vec<&Entry> = all
                            .iter()
                            .filter(|entry| index.is_none_or(|index| entry.boot == index))
                            .filter(|entry| query.wants(entry))
                            .collect();
                        if let Some(count) = tail {
                            expected.drain(..expected.len().saturating_sub(count));
                        }
                        let (found, damages) = read(directory.path(), &query);
                        assert!(damages.is_empty());
                        assert!(found.iter().eq(expected), "{query:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_question_about_one_service_reads_little_of_a_sealed_segment() {
    let directory = TempDir::new().unwrap();
    let mut writer = open(directory.path(), BOOT);
    store(&mut writer, "rare", 1, "needle");
    for number in 0..4000 {
        store(
            &mut writer,
            "often",
            number,
            &format!("hay {number} {}", "x".repeat(100)),
        );
    }
    writer.close().unwrap();
    let path = &paths(directory.path())[0];
    // Damage everything except the needle: a query that does not read it does
    // not notice.
    let mut bytes = fs::read(path).unwrap();
    let hay = bytes.windows(3).position(|three| three == b"hay").unwrap();
    bytes[hay..400_000].fill(0);
    fs::write(path, bytes).unwrap();
    let query = Query {
        services: vec!["rare".into()],
        ..Query::default()
    };
    assert_eq!(texts(directory.path(), &query), ["needle"]);
    assert_eq!(read(directory.path(), &Query::default()).1.len(), 1);
}

#[test]
fn the_oldest_goes_when_the_journal_is_full() {
    let directory = TempDir::new().unwrap();
    let limits = Limits {
        max_bytes: 600_000,
        ..LIMITS
    };
    let mut writer = Writer::open(directory.path(), BOOT, limits).unwrap();
    for number in 0..20_000 {
        let text = format!("line {number} {}", "x".repeat(number as usize % 90));
        writer
            .push(&line("network", Level::Info, number, text.as_bytes()))
            .unwrap();
        if number % 7 == 0 {
            writer.commit().unwrap();
            assert!(size(directory.path()) <= 600_000);
        }
    }
    writer.commit().unwrap();
    assert_eq!(
        writer.take_dropped().segments,
        0,
        "dropped in time, not early"
    );
    let texts = texts(directory.path(), &Query::default());
    assert!(texts.len() > 4000, "{}", texts.len());
    let first = 20_000 - texts.len();
    for (position, text) in texts.iter().enumerate() {
        assert!(text.starts_with(&format!("line {} ", first + position)));
    }
}

#[test]
fn many_small_boots_do_not_gather_files_without_end() {
    let directory = TempDir::new().unwrap();
    for boot in 0..200u8 {
        store(
            &mut open(directory.path(), BootId([boot; 16])),
            "network",
            1,
            "hello",
        );
    }
    assert!(paths(directory.path()).len() <= 129);
    let boots = Journal::open(directory.path()).boots().unwrap();
    assert_eq!(boots.last().unwrap().index, 200);
}

#[test]
fn the_kernel_position_outlives_the_writer_and_a_rotation_but_not_the_boot() {
    let directory = TempDir::new().unwrap();
    let kernel = Record {
        fields: &[(crate::KERNEL_SEQUENCE, b"41")],
        ..line("kernel", Level::Info, 1, b"Linux")
    };
    let mut writer = open(directory.path(), BOOT);
    assert_eq!(writer.kernel_position(), 0);
    writer.push(&kernel).unwrap();
    drop(writer);
    let mut writer = open(directory.path(), BOOT);
    assert_eq!(writer.kernel_position(), 0, "it was never committed");
    writer.push(&kernel).unwrap();
    writer.commit().unwrap();
    drop(writer);
    let writer = open(directory.path(), BOOT);
    assert_eq!(writer.kernel_position(), 42, "found by scanning");
    writer.close().unwrap();
    let mut writer = open(directory.path(), BOOT);
    assert_eq!(writer.kernel_position(), 42, "found in the index");
    for number in 0..20_000 {
        store(&mut writer, "network", number, &"x".repeat(100));
    }
    drop(writer);
    assert!(paths(directory.path()).len() > 1);
    assert_eq!(
        open(directory.path(), BOOT).kernel_position(),
        42,
        "found in the header"
    );
    assert_eq!(open(directory.path(), OTHER_BOOT).kernel_position(), 0);
}

#[test]
fn a_follower_sees_old_and_new_entries_across_segments_and_restarts() {
    let directory = TempDir::new().unwrap();
    let limits = Limits {
        max_bytes: 1 << 20,
        ..LIMITS
    };
    let mut writer = Writer::open(directory.path(), BOOT, limits).unwrap();
    for number in 0..10 {
        store(&mut writer, "network", number, &format!("{number}"));
    }
    let query = Query {
        tail: Some(3),
        services: vec!["network".into()],
        ..Query::default()
    };
    let mut follow = Journal::open(directory.path()).follow(&query).unwrap();
    let mut next = || {
        follow
            .next_within(Some(Duration::ZERO))
            .map(|entry| entry.unwrap().text().split(' ').next().unwrap().to_owned())
    };
    assert_eq!(
        [next(), next(), next()],
        [Some("7".into()), Some("8".into()), Some("9".into())]
    );
    assert_eq!(next(), None);
    let filler = "x".repeat(100);
    for number in 10..5000 {
        store(&mut writer, "console", number, "other");
        store(
            &mut writer,
            "network",
            number,
            &format!("{number} {filler}"),
        );
        if number % 1000 == 500 {
            // Stopped and started, or killed and started.
            if number > 2000 {
                writer.close().unwrap();
            } else {
                drop(writer);
            }
            writer = Writer::open(directory.path(), BOOT, limits).unwrap();
        }
        if number % 3 == 0 {
            for expected in number - 2..=number {
                if expected >= 10 {
                    assert_eq!(next(), Some(expected.to_string()));
                }
            }
            assert_eq!(next(), None);
        }
    }
    assert!(paths(directory.path()).len() > 3);
}

#[test]
fn a_follower_waits_for_a_journal_that_is_still_empty() {
    let directory = TempDir::new().unwrap();
    let query = Query {
        boot: Some(BootSelector::Back(0)),
        tail: Some(0),
        ..Query::default()
    };
    let mut follow = Journal::open(directory.path()).follow(&query).unwrap();
    assert!(follow.next_within(Some(Duration::from_millis(1))).is_none());
    store(&mut open(directory.path(), BOOT), "network", 1, "first");
    let entry = follow.next_within(Some(Duration::from_secs(10)));
    assert_eq!(entry.unwrap().unwrap().text(), "first");
}

/// Rotation, dropping, stopping and killing included.
#[test]
fn a_reader_beside_the_writer_sees_whole_entries_in_order() {
    let directory = TempDir::new().unwrap();
    let limits = Limits {
        max_bytes: 400_000,
        ..LIMITS
    };
    let path = directory.path().to_owned();
    let writing = std::thread::spawn(move || {
        let mut writer = Writer::open(&path, BOOT, limits).unwrap();
        for number in 0..30_000u64 {
            let text = format!("line {number} {}", "x".repeat(number as usize % 60));
            let service = ["a", "b"][number as usize % 2];
            writer
                .push(&line(service, Level::Info, number, text.as_bytes()))
                .unwrap();
            if number % 3 == 0 {
                writer.commit().unwrap();
            }
            if number % 5000 == 4998 {
                writer.commit().unwrap();
                if number % 2 == 0 {
                    writer.close().unwrap();
                } else {
                    drop(writer);
                }
                writer = Writer::open(&path, BOOT, limits).unwrap();
            }
        }
        writer.commit().unwrap();
    });
    let journal = Journal::open(directory.path());
    let mut follow = journal.follow(&Query::default()).unwrap();
    let mut followed = 0;
    let mut rounds = 0;
    let queries = [
        Query::default(),
        Query {
            services: vec!["b".into()],
            tail: Some(100),
            ..Query::default()
        },
    ];
    loop {
        let done = writing.is_finished();
        let (entries, damages) = read(directory.path(), &queries[rounds % 2]);
        assert!(damages.is_empty(), "{damages:?}");
        assert!(entries.is_sorted_by(|a, b| a.sequence < b.sequence));
        while let Some(entry) = follow.next_within(Some(Duration::ZERO)) {
            let sequence = entry.unwrap().sequence;
            assert!(sequence > followed);
            followed = sequence;
        }
        rounds += 1;
        if done {
            break;
        }
    }
    writing.join().unwrap();
    assert_eq!(followed, 30_000);
}

/// Hostile: A service floods the log. Outcome: It loses its own oldest lines, each service below its share keeps all of its lines, and an entry in their place counts the dropped ones.
#[test]
fn a_flood_costs_the_flooding_service_its_own_lines_only() {
    let directory = TempDir::new().unwrap();
    let limits = Limits {
        max_bytes: 1 << 20,
        ..LIMITS
    };
    let mut writer = Writer::open(directory.path(), BOOT, limits).unwrap();
    let mut flooded = 0;
    for round in 0..200 {
        for service in ["kernel", "init", "network"] {
            store(&mut writer, service, round, &format!("{service} {round}"));
        }
        for number in 0..2000 {
            let text = format!("y {number}");
            let record = line("flood", Level::Info, round, text.as_bytes());
            writer.push(&record).unwrap();
            flooded += 1;
        }
        writer.commit().unwrap();
        assert!(size(directory.path()) <= limits.max_bytes);
    }
    let (entries, damages) = read(directory.path(), &Query::default());
    assert!(damages.is_empty(), "{damages:?}");
    assert!(entries.is_sorted_by(|a, b| a.sequence < b.sequence));
    for service in ["kernel", "init", "network"] {
        let of_service = entries.iter().filter(|entry| entry.service == service);
        let kept: Vec<_> = of_service.map(|entry| entry.text().into_owned()).collect();
        let all: Vec<_> = (0..200).map(|round| format!("{service} {round}")).collect();
        assert_eq!(kept, all);
    }
    let notes: Vec<_> = entries
        .iter()
        .filter(|entry| entry.field("event") == Some(b"share-exceeded"))
        .collect();
    assert!(notes.iter().all(|note| note.service == "flood"));
    let dropped: u64 = notes
        .iter()
        .map(|note| String::from_utf8_lossy(note.field("lines").unwrap()).into_owned())
        .map(|lines| lines.parse::<u64>().unwrap())
        .sum();
    let kept = entries
        .iter()
        .filter(|entry| entry.service == "flood")
        .count()
        - notes.len();
    assert_eq!(dropped + kept as u64, flooded);
    assert_eq!(
        writer.take_thinned(),
        [("flood".to_owned(), dropped)].into()
    );
    assert!(notes.len() < 40, "{notes:#?}");
    assert!(
        kept > 10_000,
        "what others do not need is the flood's: {kept}"
    );
    let place = entries.iter().position(|entry| entry.service == "flood");
    assert_eq!(place, Some(3), "in the place of the first that was dropped");
    assert!(paths(directory.path()).len() < 40);
    // A tail and a service's lines, found by the index of thinned segments.
    let tail = Query {
        services: vec!["network".into()],
        tail: Some(150),
        ..Query::default()
    };
    assert_eq!(texts(directory.path(), &tail).len(), 150);
}

#[test]
fn a_service_gets_its_share_even_when_the_journal_was_full_before_it_came() {
    let directory = TempDir::new().unwrap();
    let limits = Limits {
        max_bytes: 1 << 20,
        ..LIMITS
    };
    let mut writer = Writer::open(directory.path(), BOOT, limits).unwrap();
    let text = "x".repeat(80);
    for number in 0..20_000 {
        writer
            .push(&line("old", Level::Info, number, text.as_bytes()))
            .unwrap();
        writer.commit().unwrap();
    }
    // What is in the older segments is known to this writer by their index.
    drop(writer);
    let mut writer = Writer::open(directory.path(), OTHER_BOOT, limits).unwrap();
    for number in 0..20_000 {
        for service in ["old", "kernel"] {
            writer
                .push(&line(service, Level::Info, number, text.as_bytes()))
                .unwrap();
        }
        writer.commit().unwrap();
    }
    let (entries, _) = read(directory.path(), &Query::default());
    let bytes = |service: &str| -> usize {
        let of_service = entries.iter().filter(|entry| entry.service == service);
        of_service.map(|entry| entry.message.len()).sum()
    };
    assert!(
        bytes("kernel") > 2 * bytes("old"),
        "the kernel's is four shares, and half of the newest lines"
    );
    assert!(bytes("old") > 80_000, "{}", bytes("old"));
}

/// The power fails behind the rename and before the second segment is removed.
#[test]
fn an_interrupted_merge_shows_no_entry_twice_and_is_finished() {
    let directory = TempDir::new().unwrap();
    let limits = Limits {
        max_bytes: 1 << 20,
        ..LIMITS
    };
    let flood = |writer: &mut Writer, rounds: u64| {
        for round in 0..rounds {
            store(writer, "network", round, &format!("network {round}"));
            for _ in 0..3000 {
                writer
                    .push(&line("flood", Level::Info, round, b"y"))
                    .unwrap();
            }
            writer.commit().unwrap();
        }
    };
    let mut writer = Writer::open(directory.path(), BOOT, limits).unwrap();
    flood(&mut writer, 60);
    drop(writer);
    let query = Query {
        services: vec!["network".into()],
        ..Query::default()
    };
    let all = texts(directory.path(), &query);
    let names = segment::list(directory.path()).unwrap();
    let mut intern = |service: &str| std::sync::Arc::from(service);
    let kept = fs::read(names[2].path(directory.path())).unwrap();
    crate::thinning::rewrite(
        directory.path(),
        &names[1..3],
        &crate::retention::Usage::new(),
        &mut intern,
    )
    .unwrap();
    assert_eq!(fs::read(names[2].path(directory.path())).unwrap(), kept);
    assert_eq!(texts(directory.path(), &query), all);
    let tail = Query {
        tail: Some(60),
        ..query.clone()
    };
    assert_eq!(texts(directory.path(), &tail), all);
    let mut writer = Writer::open(directory.path(), BOOT, limits).unwrap();
    flood(&mut writer, 60);
    assert!(!names[2].path(directory.path()).exists());
    let network = texts(directory.path(), &query);
    assert_eq!(network.len(), 120, "{network:?}");
}

/// Reading while segments are thinned and merged at each moment.
#[test]
fn a_reader_beside_a_flood_misses_nothing_of_the_others() {
    let directory = TempDir::new().unwrap();
    let limits = Limits {
        max_bytes: 600_000,
        ..LIMITS
    };
    let mut writer = Writer::open(directory.path(), BOOT, limits).unwrap();
    for number in 0..300 {
        store(&mut writer, "network", number, &format!("network {number}"));
        for _ in 0..20 {
            store(&mut writer, "flood", number, "y");
        }
    }
    let flooding = std::thread::spawn(move || {
        for number in 0..200_000 {
            writer
                .push(&line("flood", Level::Info, number, b"yes"))
                .unwrap();
            if number % 50 == 0 {
                writer.commit().unwrap();
            }
        }
    });
    let whole = Query {
        services: vec!["network".into()],
        ..Query::default()
    };
    let last = Query {
        tail: Some(300),
        ..whole.clone()
    };
    let expected: Vec<_> = (0..300).map(|number| format!("network {number}")).collect();
    let mut rounds = 0;
    while !flooding.is_finished() || rounds < 2 {
        for query in [&whole, &last] {
            let found = texts(directory.path(), query);
            let missing: Vec<_> = expected
                .iter()
                .filter(|line| !found.contains(line))
                .collect();
            assert!(
                missing.is_empty(),
                "{missing:?} are missing, tail {:?}",
                query.tail
            );
            assert_eq!(found.len(), expected.len(), "tail {:?}", query.tail);
        }
        rounds += 1;
    }
    flooding.join().unwrap();
}

/// Hostile: A service that can write the journal's folder puts a FIFO, a link or a folder there with a segment's name. Outcome: Writer and readers ignore it and wait for nothing.
#[test]
fn what_is_no_file_is_no_segment() {
    let directory = TempDir::new().unwrap();
    store(&mut open(directory.path(), BOOT), "network", 1, "before");
    let place = |number: u64| {
        let name = segment::Name {
            boot: 9,
            first: number,
        };
        name.path(directory.path())
    };
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&place(100), mode).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place(200)).unwrap();
    fs::create_dir(place(300)).unwrap();
    store(&mut open(directory.path(), BOOT), "network", 2, "after");
    assert_eq!(
        texts(directory.path(), &Query::default()),
        ["before", "after"]
    );
    assert_eq!(Journal::open(directory.path()).boots().unwrap().len(), 1);
}

#[test]
fn a_fifo_in_place_of_the_lock_is_an_error_and_no_wait() {
    let directory = TempDir::new().unwrap();
    let lock = directory.path().join("lock");
    let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
    nix::unistd::mkfifo(&lock, mode).unwrap();
    let error = Writer::open(directory.path(), BOOT, LIMITS).err().unwrap();
    assert!(matches!(error, Error::Write { path, .. } if path == lock));
}

/// What a slow follower has not read yet is merged into what it has read.
#[test]
fn a_follower_that_falls_behind_a_flood_misses_nothing_of_the_others() {
    let directory = TempDir::new().unwrap();
    let limits = Limits {
        max_bytes: 600_000,
        ..LIMITS
    };
    let query = Query {
        services: vec!["network".into()],
        ..Query::default()
    };
    let mut follow = Journal::open(directory.path()).follow(&query).unwrap();
    let mut writer = Writer::open(directory.path(), BOOT, limits).unwrap();
    let mut number = 0;
    let mut write = |rounds: u64| {
        for _ in 0..rounds {
            store(&mut writer, "network", 1, &format!("network {number}"));
            number += 1;
            for _ in 0..200 {
                writer.push(&line("flood", Level::Info, 1, b"y")).unwrap();
            }
            writer.commit().unwrap();
        }
    };
    let mut read = 0;
    for rounds in [3, 300, 1, 40, 500, 2] {
        write(rounds);
        // At first only one entry: the follower stays in an old segment.
        for limit in [1, usize::MAX] {
            for _ in 0..limit {
                let Some(entry) = follow.next_within(Some(Duration::ZERO)) else {
                    break;
                };
                assert_eq!(entry.unwrap().text(), format!("network {read}"));
                read += 1;
            }
            write(if limit == 1 { 150 } else { 0 });
        }
    }
    assert_eq!(read, 3 + 300 + 1 + 40 + 500 + 2 + 6 * 150);
}

#[test]
fn a_follower_sees_nothing_twice_when_the_next_segment_begins() {
    let directory = TempDir::new().unwrap();
    store(&mut open(directory.path(), BOOT), "network", 1, "one");
    for tail in [None, Some(1)] {
        let query = Query {
            tail,
            ..Query::default()
        };
        let mut follow = Journal::open(directory.path()).follow(&query).unwrap();
        let mut texts = Vec::new();
        let mut take = |follow: &mut crate::Follow| {
            while let Some(entry) = follow.next_within(Some(Duration::ZERO)) {
                texts.push(entry.unwrap().text().into_owned());
            }
        };
        take(&mut follow);
        // Another boot begins another segment, and so does a lost number.
        let boot = BootId([9 + u8::from(tail.is_some()); 16]);
        let mut writer = open(directory.path(), boot);
        store(&mut writer, "network", 2, "two");
        take(&mut follow);
        for number in 0..30_000 {
            writer
                .push(&line("network", Level::Info, 3, &[b'x'; 60]))
                .unwrap();
            if number % 100 == 0 {
                writer.commit().unwrap();
            }
        }
        store(&mut writer, "network", 3, "end");
        take(&mut follow);
        texts.retain(|text| !text.starts_with('x'));
        // The tail of the second round is the end of the first.
        let old = match tail {
            None => "one",
            Some(_) => "end",
        };
        assert_eq!(texts, [old, "two", "end"]);
    }
}
