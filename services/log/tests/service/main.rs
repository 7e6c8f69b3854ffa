//! The real log service, started as PID 1 starts it

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod full_disk;
mod killed;
mod pid1;

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use journal::{Entry, Level};
use nix::fcntl::{FcntlArg, OFlag, SpliceFFlags, fcntl, splice};
use nix::sys::stat::Mode;

use pid1::{Pid1, say};

/// A kernel's log that a test writes: a pipe with boundaries, as one read of
/// /dev/kmsg gives one message.
fn kernel_log(pid1: &mut Pid1) -> File {
    let path = pid1.directory.path().join("kmsg");
    nix::unistd::mkfifo(&path, Mode::from_bits_truncate(0o600)).unwrap();
    pid1.arguments = vec!["--kernel-log".into(), path.to_str().unwrap().into()];
    let kernel = OpenOptions::new()
        .read(true)
        .write(true)
        .open(path)
        .unwrap();
    fcntl(&kernel, FcntlArg::F_SETFL(OFlag::O_DIRECT)).unwrap();
    kernel
}

fn started() -> Pid1 {
    let mut pid1 = Pid1::new();
    pid1.arguments = vec!["--kernel-log".into(), "/nonexistent".into()];
    pid1.start();
    pid1
}

/// Entries without the log service's own.
fn of_others(entries: Vec<Entry>) -> Vec<Entry> {
    entries
        .into_iter()
        .filter(|entry| entry.service != "log")
        .collect()
}

/// Events of this kind.
fn events<'a>(entries: &'a [Entry], event: &str) -> Vec<&'a Entry> {
    entries
        .iter()
        .filter(|entry| entry.field("event") == Some(event.as_bytes()))
        .collect()
}

#[test]
fn what_services_say_is_stored_with_name_and_level() {
    let mut pid1 = started();
    let mut network = pid1.add("network");
    let mut console = pid1.add("console");
    say(&mut network, "<4>no carrier");
    pid1.wait_for_line("network", "no carrier");
    network
        .write_all(b"two\nlines\n\xff\xfe binary \x00\n")
        .unwrap();
    pid1.wait_for("three lines", |entries| {
        of_others(entries.to_vec()).len() == 4
    });
    say(&mut console, "hello");
    pid1.wait_for_line("console", "hello");
    let told: Vec<_> = of_others(pid1.entries())
        .into_iter()
        .map(|entry| (entry.service, entry.level, entry.message))
        .collect();
    let line = |service: &str, level, text: &[u8]| (service.to_owned(), level, text.to_owned());
    assert_eq!(
        told,
        [
            line("network", Level::Warning, b"no carrier"),
            line("network", Level::Info, b"two"),
            line("network", Level::Info, b"lines"),
            line("network", Level::Info, b"\xff\xfe binary \x00"),
            line("console", Level::Info, b"hello"),
        ]
    );
    assert!(pid1.stop().success());
}

#[test]
fn what_was_said_before_the_start_and_between_runs_is_stored_once() {
    let mut pid1 = Pid1::new();
    pid1.arguments = vec!["--kernel-log".into(), "/nonexistent".into()];
    let mut network = pid1.add("network");
    let mut expected = Vec::new();
    for run in 0..5 {
        for number in 0..3 {
            let line = format!("run {run} line {number}");
            say(&mut network, &line);
            expected.push(line);
        }
        pid1.start();
        if run % 2 == 0 {
            pid1.wait_for_line("network", expected.last().unwrap());
        }
        assert!(pid1.stop().success());
    }
    pid1.start();
    pid1.wait_for_line("network", expected.last().unwrap());
    pid1.stop();
    assert_eq!(pid1.said("network"), expected);
}

#[test]
fn a_hung_up_socket_changes_nothing_for_the_pipes() {
    let mut pid1 = started();
    let mut network = pid1.add("network");
    say(&mut network, "before");
    pid1.wait_for_line("network", "before");
    pid1.hang_up();
    say(&mut network, "after");
    pid1.wait_for_line("network", "after");
}

#[test]
fn garbage_on_the_socket_is_told_of_and_harmless() {
    let mut pid1 = started();
    let _quoted = pid1.add("a\",\"later\":\"b"); // another key beside the name
    let _broken = pid1.add("a\"");
    pid1.wait_for("the word", |entries| {
        events(entries, "unusable-message").len() == 1
    });
    let mut network = pid1.add("network");
    say(&mut network, "still here");
    pid1.wait_for_line("network", "still here");
}

#[test]
fn a_closed_pipe_gives_its_last_line_without_a_newline() {
    let mut pid1 = started();
    let mut short = pid1.add("short");
    short.write_all(b"<3>one\nlast words").unwrap();
    pid1.wait_for_line("short", "one");
    drop(short);
    let last = pid1.wait_for_line("short", "last words");
    assert!(!last.unfinished);
}

#[test]
fn a_line_whose_end_does_not_come_is_stored_and_its_rest_too() {
    let mut pid1 = started();
    let mut network = pid1.add("network");
    network.write_all(b"<5>waiting for").unwrap();
    let begun = pid1.wait_for_line("network", "waiting for");
    assert!(begun.unfinished);
    network.write_all(b" godot\nnext\n").unwrap();
    let rest = pid1.wait_for_line("network", " godot");
    assert_eq!((rest.level, rest.unfinished), (Level::Notice, false));
    assert_eq!(pid1.wait_for_line("network", "next").level, Level::Info);
}

/// The kernel makes no event for a write that does not fit behind what waits.
#[test]
fn a_write_that_blocks_behind_a_lines_beginning_is_taken() {
    let mut pid1 = started();
    let mut network = pid1.add("network");
    network.write_all(b"begin").unwrap();
    thread::sleep(Duration::from_millis(500));
    let mut rest = b" end\n".to_vec();
    rest.extend("x\n".repeat(100_000).bytes());
    network.write_all(&rest).unwrap();
    let line = pid1.wait_for_line("network", "begin end");
    assert!(!line.unfinished);
}

#[test]
fn a_long_line_is_stored_in_pieces_across_a_restart() {
    let mut pid1 = started();
    let mut network = pid1.add("network");
    let long = "0123456789".repeat(5000);
    network.write_all(b"<3>").unwrap();
    network.write_all(long.as_bytes()).unwrap();
    pid1.wait_for("a piece", |entries| {
        entries.iter().any(|entry| entry.unfinished)
    });
    pid1.kill();
    pid1.start();
    network.write_all(b"\nshort\n").unwrap();
    pid1.wait_for_line("network", "short");
    let mut pieces = of_others(pid1.entries());
    pieces.pop();
    assert!(pieces.len() >= 4);
    assert!(pieces.iter().all(|piece| piece.level == Level::Error));
    let (last, others) = pieces.split_last().unwrap();
    assert!(!last.unfinished && others.iter().all(|piece| piece.unfinished));
    let whole: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| piece.message.clone())
        .collect();
    assert_eq!(String::from_utf8(whole).unwrap(), long);
}

/// A pipe has 16 buffers; spliced bytes have one each, however few they are.
#[test]
fn a_pipe_full_of_little_does_not_block_its_service() {
    let mut pid1 = started();
    let network = pid1.add("network");
    let path = pid1.directory.path().join("x");
    fs::write(&path, "x").unwrap();
    let file = File::open(path).unwrap();
    for _ in 0..40 {
        let mut offset = 0;
        let flags = SpliceFFlags::empty();
        let moved = splice(
            file.as_fd(),
            Some(&mut offset),
            network.as_fd(),
            None,
            1,
            flags,
        );
        assert_eq!(moved, Ok(1));
    }
    let mut network = network;
    network.write_all(b"\n").unwrap();
    let count = |entries: &[Entry]| -> usize {
        of_others(entries.to_vec())
            .iter()
            .map(|entry| entry.message.len())
            .sum()
    };
    pid1.wait_for("40 bytes", |entries| {
        count(entries) == 40 && entries.last().is_some_and(|entry| !entry.unfinished)
    });
}

#[test]
fn a_flood_does_not_keep_others_from_being_heard() {
    let mut pid1 = started();
    let mut flood = pid1.add("flood");
    let mut network = pid1.add("network");
    let stop = Arc::new(AtomicBool::new(false));
    let lines = Arc::new(AtomicU64::new(0));
    let flooding = thread::spawn({
        let (stop, lines) = (Arc::clone(&stop), Arc::clone(&lines));
        move || {
            while !stop.load(Ordering::Relaxed) {
                let line = lines.load(Ordering::Relaxed);
                say(&mut flood, &format!("flood {line}"));
                lines.store(line + 1, Ordering::Relaxed);
            }
        }
    });
    // More than fits into a pipe: the service takes it already.
    while lines.load(Ordering::Relaxed) < 10_000 {
        thread::sleep(Duration::from_millis(1));
    }
    for number in 0..5 {
        let begin = Instant::now();
        say(&mut network, &format!("{number}"));
        let query = journal::Query {
            services: vec!["network".into()],
            tail: Some(1),
            ..journal::Query::default()
        };
        loop {
            let mut last = journal::Journal::open(pid1.journal())
                .entries(&query)
                .unwrap();
            if last.any(|entry| entry.is_ok_and(|entry| entry.text() == number.to_string())) {
                break;
            }
            assert!(begin.elapsed() < pid1::LIMIT, "line {number} is not heard");
        }
    }
    stop.store(true, Ordering::Relaxed);
    flooding.join().unwrap();
    let said = lines.load(Ordering::Relaxed);
    pid1.stop();
    let mut flood = pid1.said("flood");
    // Word of those that were over its share.
    flood.retain(|line| line.starts_with("flood "));
    let first = said as usize - flood.len();
    for (position, line) in flood.iter().enumerate() {
        assert_eq!(*line, format!("flood {}", first + position));
    }
}

#[test]
fn the_kernels_messages_are_stored_once_and_lost_ones_counted() {
    let mut pid1 = Pid1::new();
    let mut kernel = kernel_log(&mut pid1);
    let mut tell = |message: &str| {
        kernel.write_all(message.as_bytes()).unwrap();
    };
    let old = [
        "6,0,10,-;Linux version 6.12\n",
        "4,1,2000000,-;a\\x20b\n SUBSYSTEM=pci\n",
    ];
    old.iter().for_each(|message| tell(message));
    pid1.start();
    pid1.wait_for_line("kernel", "Linux version 6.12");
    pid1.wait_for_line("kernel", "a b");
    pid1.kill();
    // A fresh reader of the device begins at the oldest message again.
    old.iter().for_each(|message| tell(message));
    tell("28,2,2500000,-;init: log is ready\n");
    pid1.start();
    pid1.wait_for_line("init", "log is ready");
    tell("3,7,3000000,-;trouble\n");
    let trouble = pid1.wait_for_line("kernel", "trouble");
    assert!(pid1.stop().success());

    let entries = pid1.entries();
    assert_eq!(entries.len(), 5, "{entries:#?}");
    assert_eq!(trouble.level, Level::Error);
    assert_eq!(trouble.monotonic, Duration::from_secs(3));
    assert_eq!(entries[1].field("SUBSYSTEM"), Some(&b"pci"[..]));
    let lost = events(&entries, "kernel-messages-lost");
    assert_eq!(lost.len(), 1);
    assert_eq!(lost[0].field("messages"), Some(&b"4"[..]));
}

/// The real device, where this machine lets us read it.
#[test]
fn the_real_kernel_log_is_read_where_it_can_be() {
    let real = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open("/dev/kmsg");
    let mut pid1 = Pid1::new();
    pid1.start();
    match real {
        Ok(_) => {
            pid1.wait_for("a message", |entries| {
                entries
                    .iter()
                    .any(|entry| entry.field(journal::KERNEL_SEQUENCE).is_some())
            });
        }
        Err(_) => {
            pid1.wait_for("the word", |entries| {
                !events(entries, "kernel-log-lost").is_empty()
            });
        }
    }
    pid1.kill();
    pid1.start();
    pid1.stop();
    let entries = pid1.entries();
    let numbers: Vec<_> = entries
        .iter()
        .filter_map(|entry| entry.field(journal::KERNEL_SEQUENCE))
        .map(|number| String::from_utf8_lossy(number).parse::<u64>().unwrap())
        .collect();
    assert!(numbers.is_sorted_by(|a, b| a < b));
}

#[test]
fn a_second_log_service_refuses_to_start() {
    let mut pid1 = started();
    let first = pid1.process();
    let output = Command::new(env!("CARGO_BIN_EXE_log")).output().unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("LISTEN_FDS"));
    let mut second = Pid1::new();
    second.arguments = vec![
        "--directory".into(),
        pid1.journal().to_str().unwrap().into(),
    ];
    second.spawn();
    let status = second.wait();
    assert!(!status.success());
    assert_eq!(pid1.process(), first);
    assert!(pid1.stop().success());
}
