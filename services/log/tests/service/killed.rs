//! The log service is killed at any moment, and PID 1 starts it again

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::pid1::{Pid1, say};

/// A small generator of moments (xorshift): the same in each run of the test.
struct Moments(u64);

impl Moments {
    fn next(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Three services count in different ways while the log service is killed
/// again and again. How often each line is in the journal, by service.
fn lines_of_services_while_killed(pid1: &mut Pid1) -> Vec<Vec<u32>> {
    const SERVICES: [&str; 3] = ["fast", "long", "slow"];
    pid1.arguments = vec!["--kernel-log".into(), "/nonexistent".into()];
    let stop = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = SERVICES
        .iter()
        .map(|service| {
            let mut output = pid1.add(service);
            let stop = Arc::clone(&stop);
            thread::spawn(move || {
                let mut number = 0usize;
                while !stop.load(Ordering::Relaxed) {
                    match *service {
                        "long" => say(&mut output, &format!("{number} {}", "x".repeat(3000))),
                        "fast" => say(&mut output, &format!("{number} ")),
                        _ => {
                            // In two writes, with a pause.
                            output.write_all(format!("{number}").as_bytes()).unwrap();
                            thread::sleep(Duration::from_millis(1));
                            output.write_all(b" \n").unwrap();
                        }
                    }
                    number += 1;
                    // Enough to be caught in the act, and no more than fits
                    // into the journal.
                    thread::sleep(Duration::from_micros(300));
                }
                number
            })
        })
        .collect();
    let mut moments = Moments(0x9e37_79b9_7f4a_7c15);
    for _ in 0..80 {
        pid1.spawn();
        thread::sleep(Duration::from_micros(moments.next(40_000)));
        pid1.kill();
    }
    stop.store(true, Ordering::Relaxed);
    pid1.start();
    let counts: Vec<usize> = writers
        .into_iter()
        .map(|writer| writer.join().unwrap())
        .collect();
    for (service, count) in SERVICES.iter().zip(&counts) {
        let last = format!("{} ", count - 1);
        pid1.wait_for("the last line", |entries| {
            let mut of_service = entries.iter().filter(|entry| entry.service == *service);
            of_service.any(|entry| entry.text().starts_with(&last))
        });
    }
    assert!(pid1.stop().success());
    let entries = pid1.entries();
    for pair in entries.windows(2) {
        assert!(pair[0].sequence < pair[1].sequence, "{pair:?}");
    }
    let times = SERVICES.iter().zip(counts).map(|(service, count)| {
        assert!(count > 20, "{service} said {count} lines only");
        let mut times = vec![0; count];
        let mut greatest = None;
        for entry in entries.iter().filter(|entry| entry.service == *service) {
            let number: usize = entry.text().split(' ').next().unwrap().parse().unwrap();
            times[number] += 1;
            // In order; what comes a second time comes in order too.
            assert!(
                greatest.is_none_or(|greatest| number <= greatest + 1),
                "{service} {number}"
            );
            greatest = greatest.max(Some(number));
        }
        times
    });
    times.collect()
}

#[test]
fn each_line_is_stored_once_when_the_service_is_killed_at_any_moment() {
    let mut pid1 = Pid1::new();
    for times in lines_of_services_while_killed(&mut pid1) {
        assert!(times.iter().all(|times| *times == 1), "{times:?}");
    }
}

#[test]
fn no_line_is_lost_where_nobody_keeps_the_ledger() {
    let mut pid1 = Pid1::new();
    pid1.keeps = false;
    for times in lines_of_services_while_killed(&mut pid1) {
        assert!(times.iter().all(|times| *times >= 1), "{times:?}");
    }
}
