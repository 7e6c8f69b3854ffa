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

use oci_spec::runtime::Capabilities;
use serde::{Deserialize, Serialize};
use supervisor::Policy;

pub use entry::{Entry, Found, IMAGES};
pub use file::{Mount, Role, Share};
pub use value::{BOOT_DISK, CpuLimit, Listen, MEETING_PLACE, STATE_DISK, StopSignal, User};

/// The largest definition that is read, in bytes.
pub const MAX_LENGTH: usize = 64 * 1024;

/// A definition that can be run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Definition {
    /// One line for people.
    pub description: String,
    /// Its part in the OS; only services of the OS image have one.
    pub role: Option<Role>,
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
    pub stop_signal: StopSignal,
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
    /// The permissions of those on a path.
    pub socket_mode: u32,
    /// How many descriptors it may store.
    pub stored_descriptors: u32,
    /// Its limits.
    pub limits: Limits,
}

/// What a service may use.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Memory.
    pub memory: MemoryLimit,
    /// Swap in bytes, beside the memory.
    pub swap: Option<u64>,
    /// Tasks: processes and threads.
    pub pids: Option<u64>,
    /// Share of the processors.
    pub cpu: Option<CpuLimit>,
    /// Open files of a process.
    pub open_files: Option<u64>,
}

/// How much memory a service may use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MemoryLimit {
    /// Half of the machine's.
    #[default]
    Half,
    /// So many bytes.
    Bytes(u64),
    /// As much as all services together.
    None,
}

impl MemoryLimit {
    /// In bytes, on a machine with so many; `None` where there is no limit of its
    /// own.
    pub fn bytes(self, machine: u64) -> Option<u64> {
        match self {
            Self::Half => Some(machine / 2),
            Self::Bytes(bytes) => Some(bytes),
            Self::None => None,
        }
    }
}

/// Parses a definition. `path` is only for the error.
///
/// # Errors
/// The first mistake.
pub fn parse(path: &str, text: &str) -> Result<Definition, config::Error> {
    if text.len() > MAX_LENGTH {
        let what = format!("is too long: it may have {MAX_LENGTH} bytes at most");
        return Err(config::Error::of_file(path, what));
    }
    config::parse(path, text, file::File::into_definition)
}

#[cfg(test)]
mod tests;
