//! The log, as runc's callers read it: one line per event, as text or JSON.

use std::fs::{File, OpenOptions};
use std::io::{IsTerminal, Write, stderr};
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;
use std::time::SystemTime;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::arguments::{Global, LogFormat};
use crate::time::rfc3339;

static LOG: OnceLock<Log> = OnceLock::new();

struct Log {
    file: Option<File>,
    format: LogFormat,
    debug: bool,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    Debug,
    Warning,
    Error,
}

#[derive(Serialize)]
struct Line<'a> {
    level: Level,
    msg: &'a str,
    time: String,
}

/// Opens the log that the options name.
pub fn open(options: &Global) -> Result<()> {
    let file = match options.log.as_deref() {
        None => None,
        Some(path) if path.as_os_str().is_empty() => None,
        Some(path) => Some(
            OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o644)
                .open(path)
                .with_context(|| format!("open the log {}", path.display()))?,
        ),
    };
    // Called once; a second log would be ignored.
    let _ = LOG.set(Log {
        file,
        format: options.log_format,
        debug: options.debug,
    });
    Ok(())
}

/// What is done, for `--debug`.
pub fn debug(message: impl FnOnce() -> String) {
    if LOG.get().is_some_and(|log| log.debug) {
        write(Level::Debug, &message());
    }
}

/// What went wrong without stopping the command.
pub fn warn(message: &str) {
    write(Level::Warning, message);
}

/// Why the command failed: to the log, and to standard error.
pub fn error(message: &str) {
    write(Level::Error, message);
    if LOG.get().is_some_and(|log| log.file.is_some()) {
        // Nobody may read it, or want to.
        let _ = writeln!(stderr(), "{message}");
    }
}

fn write(level: Level, message: &str) {
    let format = LOG.get().map_or(LogFormat::Text, |log| log.format);
    let file = LOG.get().and_then(|log| log.file.as_ref());
    let line = Line {
        level,
        msg: message,
        time: rfc3339(SystemTime::now()),
    };
    let text = match format {
        LogFormat::Json => serde_json::to_string(&line).unwrap_or_default(),
        LogFormat::Text if file.is_none() && stderr().is_terminal() => {
            format!("wherry-runtime: {message}")
        }
        LogFormat::Text => {
            let level = match level {
                Level::Debug => "debug",
                Level::Warning => "warning",
                Level::Error => "error",
            };
            format!("time=\"{}\" level={level} msg={message:?}", line.time)
        }
    };
    // In one write, so that the lines of several commands do not mix. Nobody
    // can be told that the log cannot be written.
    let _ = match file {
        Some(mut file) => file.write_all(format!("{text}\n").as_bytes()),
        None => stderr().write_all(format!("{text}\n").as_bytes()),
    };
}
