//! Lines on standard error with their level as sd-daemon(3) writes it.

use std::io::Write;

use log::{Level, LevelFilter, Log, Metadata, Record};

struct Lines;

/// The log of this program from now on.
pub fn start() {
    if log::set_logger(&Lines).is_ok() {
        log::set_max_level(LevelFilter::Info);
    }
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // What the libraries call information (each retry) is none for an
        // operator: what matters of it is said here in our words.
        metadata.level() <= Level::Warn || metadata.target().starts_with("network")
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let level = match record.level() {
            Level::Error => 3,
            Level::Warn => 4,
            Level::Info => 6,
            Level::Debug | Level::Trace => 7,
        };
        // One write, so that no other line comes between.
        let line = format!(
            "<{level}>{}\n",
            record.args().to_string().replace('\n', " ")
        );
        let _ = std::io::stderr().write_all(line.as_bytes());
    }

    fn flush(&self) {}
}
