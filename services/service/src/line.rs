//! Lines of the log.

use std::fmt::Display;
use std::io::Write;

use log_line::{Level, Line};

/// Says `text` at a level: one line on standard error, which PID 1 has connected
/// to the log. A line break in it becomes a space.
///
/// It is one write, so that no other line comes between. Errors are ignored: a
/// service does not end because nobody reads its output.
pub fn say(level: Level, text: &str) {
    let line = format!("{}\n", Line { level, text });
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Says that something has happened, as [`log_line::event`] writes it: `name` in
/// words with hyphens, `fields` by name, `message` for people.
pub fn event(level: Level, name: &str, fields: &[(&str, &dyn Display)], message: &str) {
    say(level, &log_line::event(name, fields, message));
}
