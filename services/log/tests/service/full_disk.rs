//! A file system that is full, seen from the log service: a small tmpfs in a
//! mount namespace of its own

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use journal::{Entry, Level};

use crate::pid1::{self, Pid1, say};
use crate::{events, of_others};

/// Starts the log service with its journal on a tmpfs of so many KiB; where
/// that is, seen from here.
fn start_on(pid1: &mut Pid1, kibibytes: u32) -> PathBuf {
    fs::create_dir(pid1.journal()).unwrap();
    let mount = format!(
        "mount -t tmpfs -o size={kibibytes}k journal {} && exec \"$0\" \"$@\"",
        pid1.journal().display()
    );
    let words = [
        "unshare",
        "--user",
        "--map-root-user",
        "--mount",
        "sh",
        "-c",
        &mount,
    ];
    pid1.wrapper = words.map(str::to_owned).into();
    pid1.arguments = vec!["--kernel-log".into(), "/nonexistent".into()];
    pid1.start();
    // The namespaces live as long as the process, and so does this path.
    Path::new("/proc")
        .join(pid1.process().to_string())
        .join("root")
        .join(pid1.journal().strip_prefix("/").unwrap())
}

/// Takes all space that is left.
fn fill(directory: &Path) {
    let mut filler = OpenOptions::new()
        .create(true)
        .append(true)
        .open(directory.join("filler"))
        .unwrap();
    loop {
        match filler.write_all(&[1; 4096]) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Waits until a service's line is in the journal, and returns all of it.
fn wait_for(directory: &Path, line: &str) -> Vec<Entry> {
    let deadline = std::time::Instant::now() + pid1::LIMIT;
    loop {
        let entries = pid1::entries(directory);
        if entries.iter().any(|entry| entry.text() == line) {
            return entries;
        }
        assert!(std::time::Instant::now() < deadline, "{line} is not stored");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sums a field of some events.
fn sum(entries: &[Entry], event: &str, field: &str) -> usize {
    let events = events(entries, event).into_iter();
    let values =
        events.map(|entry| String::from_utf8_lossy(entry.field(field).unwrap()).into_owned());
    values.map(|value| value.parse::<usize>().unwrap()).sum()
}

#[test]
fn a_full_disk_costs_old_entries_and_the_newest_lines_are_stored() {
    let mut pid1 = Pid1::new();
    let mut network = pid1.add("network");
    let directory = start_on(&mut pid1, 2048);
    for number in 0..1000 {
        say(&mut network, &format!("{number} {}", "x".repeat(100)));
    }
    say(&mut network, "half time");
    wait_for(&directory, "half time");
    fill(&directory);
    // More than there are free blocks in the journal's own files.
    for number in 0..3000 {
        say(&mut network, &format!("more {number} {}", "x".repeat(100)));
    }
    say(&mut network, "the end");
    wait_for(&directory, "the end");
    // Read now that nothing is dropped meanwhile.
    let entries = pid1::entries(&directory);
    assert!(sum(&entries, "entries-dropped", "entries") > 0);
    let mut stored = of_others(entries.clone());
    stored.pop();
    // Word of what was dropped, in its place.
    stored.retain(|entry| entry.field("event").is_none());
    let first = 3000 - stored.len();
    for (position, entry) in stored.iter().enumerate() {
        let line = format!("more {} ", first + position);
        assert!(entry.text().starts_with(&line), "{entry:?} is not {line}");
    }
    assert_eq!(sum(&entries, "lines-dropped", "lines"), 0);
    assert!(
        fs::metadata(directory.join("filler")).is_ok(),
        "others' files are left alone"
    );
}

#[test]
fn lines_that_cannot_be_stored_are_counted_and_nobody_has_to_wait() {
    let mut pid1 = Pid1::new();
    let mut network = pid1.add("network");
    let directory = start_on(&mut pid1, 2048);
    say(&mut network, "begin");
    wait_for(&directory, "begin");
    // Nothing can be stored: the one segment is small, and its place taken.
    fill(&directory);
    // A megabyte, far more than the pipe holds.
    let mut said = 0;
    let mut lines = File::from(network.try_clone().map(std::os::fd::OwnedFd::from).unwrap());
    while said < 10_000 {
        say(&mut lines, &format!("line {said} {}", "x".repeat(100)));
        said += 1;
    }
    let filler = directory.join("filler");
    fs::remove_file(filler).unwrap();
    say(&mut network, "<4>the end");
    let entries = wait_for(&directory, "the end");
    let stored = of_others(entries.clone()).len() - 2;
    // The word of it is behind the first lines stored again.
    let entries = if events(&entries, "lines-dropped").is_empty() {
        say(&mut network, "ask again");
        wait_for(&directory, "ask again")
    } else {
        entries
    };
    let dropped = sum(&entries, "lines-dropped", "lines");
    assert!(dropped > 0);
    assert_eq!(stored + dropped, said);
    let told = events(&entries, "lines-dropped")[0];
    assert_eq!(
        (told.level, told.field("of")),
        (Level::Error, Some(&b"network"[..]))
    );
    assert_eq!(events(&entries, "store-failed").len(), 1);
    // Those kept are the newest.
    let newest = |entry: &Entry| entry.text().starts_with("line 9999 ");
    assert!(entries.iter().any(newest));
}
