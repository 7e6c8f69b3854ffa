//! How long each test takes, from what test programs print.
//!
//! Stable libtest prints a line when a test ends and no times. It starts tests in
//! the order in which it lists them, as many at once as `--test-threads` says, and
//! the next one whenever one ends. So when a test began is known from the list and
//! from the ends before it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The names of the tests of each program, in their order.
#[derive(Debug, Default)]
pub struct Lists(BTreeMap<String, Vec<String>>);

impl Lists {
    /// Reads the output of `cargo test … -- --list`, both streams.
    pub fn parse(output: &str) -> Self {
        let mut lists = BTreeMap::new();
        let mut program = String::new();
        for line in output.lines() {
            if let Some(name) = running(line) {
                program = name.to_owned();
            } else if let Some(test) = line.strip_suffix(": test") {
                let list: &mut Vec<String> = lists.entry(program.clone()).or_default();
                list.push(test.to_owned());
            }
        }
        Self(lists)
    }

    /// How many tests there are.
    pub fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Follows the output of `cargo test`.
#[derive(Debug)]
pub struct Clock {
    lists: Lists,
    threads: usize,
    program: String,
    /// Tests of the running program that have not begun.
    waiting: VecDeque<String>,
    /// Those that run, and since when.
    running: BTreeMap<String, Duration>,
    /// Those that have ended, and what they took.
    took: Vec<(String, Duration)>,
}

impl Clock {
    /// For programs with these tests, of which each runs `threads` at once.
    pub fn new(lists: Lists, threads: usize) -> Self {
        Self {
            lists,
            threads,
            program: String::new(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            took: Vec::new(),
        }
    }

    /// A line was printed, `now` after the beginning.
    pub fn line(&mut self, line: &str, now: Duration) {
        if let Some(program) = running(line) {
            program.clone_into(&mut self.program);
            self.waiting.clear();
            self.running.clear();
        } else if line.starts_with("running ") && line.trim_end().ends_with(['s', 't']) {
            let list = self.lists.0.get(&self.program);
            self.waiting = list.into_iter().flatten().cloned().collect();
            self.start(now);
        } else if let Some(name) = ended(line)
            && let Some(since) = self.running.remove(name)
        {
            self.took.push((name.to_owned(), now.saturating_sub(since)));
            self.start(now);
        }
    }

    /// What each test took that has ended.
    pub fn took(self) -> Vec<(String, Duration)> {
        self.took
    }

    fn start(&mut self, now: Duration) {
        while self.running.len() < self.threads
            && let Some(test) = self.waiting.pop_front()
        {
            self.running.insert(test, now);
        }
    }
}

/// The program of `Running unittests src/lib.rs (target/debug/deps/name-0123)`, or
/// the crate of `Doc-tests name`.
fn running(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("Running ") {
        return rest
            .strip_suffix(')')?
            .rsplit_once('(')
            .map(|(_, path)| path);
    }
    line.strip_prefix("Doc-tests ")
}

/// The test of `test name ... ok`.
fn ended(line: &str) -> Option<&str> {
    let (name, result) = line.strip_prefix("test ")?.rsplit_once(" ... ")?;
    let known = ["ok", "FAILED", "ignored"];
    if !known.iter().any(|word| result.starts_with(word)) {
        return None;
    }
    Some(name.strip_suffix(" - should panic").unwrap_or(name))
}

#[cfg(test)]
mod tests {
    use super::{Clock, Lists};
    use std::time::Duration;

    const LIST: &str = "     Running unittests src/lib.rs (target/debug/deps/a-1)
a: test
b: test
c: test

3 tests, 0 benchmarks
     Running tests/x.rs (target/debug/deps/x-2)
d: test

1 test, 0 benchmarks
";

    fn took(threads: usize, lines: &[(u64, &str)]) -> Vec<(String, u64)> {
        let mut clock = Clock::new(Lists::parse(LIST), threads);
        for (seconds, line) in lines {
            clock.line(line, Duration::from_secs(*seconds));
        }
        clock
            .took()
            .into_iter()
            .map(|(name, took)| (name, took.as_secs()))
            .collect()
    }

    #[test]
    fn lists_are_read() {
        assert_eq!(Lists::parse(LIST).len(), 4);
        assert!(Lists::parse("").is_empty());
    }

    #[test]
    fn a_test_begins_when_one_before_it_ends() {
        let lines = [
            (
                0,
                "     Running unittests src/lib.rs (target/debug/deps/a-1)",
            ),
            (1, "running 3 tests"),
            (3, "test b ... ok"),
            (4, "test b has been running for over 60 seconds"),
            (10, "test a - should panic ... FAILED"),
            (11, "test c ... ignored, why"),
            (20, "     Running tests/x.rs (target/debug/deps/x-2)"),
            (21, "running 1 test"),
            (25, "test d ... ok"),
        ];
        let of = |list: &[(&str, u64)]| -> Vec<(String, u64)> {
            list.iter().map(|(n, t)| ((*n).to_owned(), *t)).collect()
        };
        // With two threads a and b begin at once, and c when b ends.
        assert_eq!(
            took(2, &lines),
            of(&[("b", 2), ("a", 9), ("c", 8), ("d", 4)])
        );
    }

    #[test]
    fn one_thread_runs_them_one_after_the_other() {
        let lines = [
            (
                0,
                "     Running unittests src/lib.rs (target/debug/deps/a-1)",
            ),
            (0, "running 3 tests"),
            (1, "test a ... ok"),
            (3, "test b ... ok"),
            (6, "test c ... ok"),
        ];
        let took = took(1, &lines);
        assert_eq!(took.iter().map(|t| t.1).collect::<Vec<_>>(), [1, 2, 3]);
    }
}
