//! A service's definition: `service.toml` → [`Definition`] → OCI specification.
//!
//! ```text
//! Found ── understand ──▶ Entry { definition, root } ── spec::build ──▶ Spec
//!              └─ parse
//! ```
//!
//! Pure: whoever calls it has read the file and looks for the root, the devices
//! and the mounts. The file's own types, with their defaults, are in `file`; the
//! values inside strings (`"250ms..30s"`) in `value`. An absent key always means
//! the strictest: no capability, no network, nothing shared with the machine.
//! `docs/services.md` is the manual page; a test compares its tables of keys
//! with the ones here.

mod entry;
mod file;
pub mod spec;
mod value;

use std::collections::BTreeMap;

use nix::sys::signal::Signal;
use oci_spec::runtime::Capabilities;
use serde::{Deserialize, Serialize};
use supervisor::Policy;

pub use entry::{Entry, Found, IMAGES};
pub use file::{BOOT_DISK, Mount, STATE_DISK, Share};
pub use value::{CpuLimit, Listen, User};

/// The largest definition that is read, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;

/// A definition that can be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// One line for people.
    pub description: String,
    /// Which root: `None` is the one beside the definition.
    pub image: Option<String>,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Variables added to the environment.
    pub environment: BTreeMap<String, String>,
    /// Where the program starts.
    pub working_directory: String,
    /// Whom it runs as.
    pub user: User,
    /// How it is supervised.
    pub policy: Policy,
    /// The signal that asks it to end.
    #[serde(with = "value::signal")]
    pub stop_signal: Signal,
    /// The probe of its health.
    pub probe: Option<Vec<String>>,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// What it shares with the machine.
    pub network: Share,
    /// Whether it sees the machine's processes.
    pub pid: Share,
    /// Whether it shares System V objects and message queues.
    pub ipc: Share,
    /// What is mounted into it.
    pub mounts: Vec<Mount>,
    /// Device nodes, as paths or patterns.
    pub devices: Vec<String>,
    /// Sockets that PID 1 opens and keeps for it.
    pub sockets: Vec<Listen>,
    /// How many descriptors it may store.
    pub stored_descriptors: u32,
    /// Its limits.
    pub limits: Limits,
}

/// What a service may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory in bytes.
    pub memory: Option<u64>,
    /// Swap in bytes, beside the memory.
    pub swap: Option<u64>,
    /// Tasks: processes and threads.
    pub pids: Option<u64>,
    /// Share of the processors.
    pub cpu: Option<CpuLimit>,
    /// Open files of a process.
    pub open_files: Option<u64>,
}

/// Why a definition cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DefinitionError {
    /// The file.
    pub path: String,
    /// The line, from 1, where one is to blame.
    pub line: Option<usize>,
    /// What is wrong, with the key.
    pub message: String,
}

impl std::fmt::Display for DefinitionError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.path, self.message),
            None => write!(f, "{}: {}", self.path, self.message),
        }
    }
}

impl std::error::Error for DefinitionError {}

/// Parses a definition. `path` is only for the error.
///
/// # Errors
/// The first mistake, with its line and key.
pub fn parse(path: &str, text: &str) -> Result<Definition, DefinitionError> {
    let error = |line, message| DefinitionError {
        path: path.to_owned(),
        line,
        message,
    };
    if text.len() > MAX_LENGTH {
        return Err(error(
            None,
            format!("a definition may have {MAX_LENGTH} bytes at most"),
        ));
    }
    let file: file::File = toml::from_str(text).map_err(|cause| {
        let line = cause
            .span()
            .map(|span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        let key = line.and_then(|line| key_of_line(text, line));
        let message = cause.message().trim().to_owned();
        match key {
            Some(key) if !message.contains(&format!("`{key}`")) => {
                error(line, format!("key `{key}`: {message}"))
            }
            _ => error(line, message),
        }
    })?;
    file.into_definition().map_err(|(key, message)| {
        let line = text
            .lines()
            .position(|line| line.trim_start().starts_with(key))
            .map(|index| index + 1);
        error(line, format!("key `{key}`: {message}"))
    })
}

/// The key that a line sets, for errors inside its value.
fn key_of_line(text: &str, line: usize) -> Option<String> {
    let (key, _) = text.lines().nth(line - 1)?.split_once('=')?;
    let key = key.trim();
    (!key.is_empty()
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)))
    .then(|| key.to_owned())
}

#[cfg(test)]
mod tests;
