//! What this program and its libraries say by way of the crate `log`, as lines
//! of the service's log.

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
            Level::Error => service::Level::Error,
            Level::Warn => service::Level::Warning,
            Level::Info => service::Level::Info,
            Level::Debug | Level::Trace => service::Level::Debug,
        };
        service::say(level, &record.args().to_string());
    }

    fn flush(&self) {}
}
