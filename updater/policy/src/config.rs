//! What the operator asked for: `update.toml`.
//!
//! [`Config::parse`] is pure. `docs/update-policy.md` is the manual page; a test
//! compares its tables of keys with [`KEYS`].

mod file;
mod value;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use crate::fleet_lock::Client;
use crate::{MachineId, Windows};

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where releases come from, in order of preference: `http(s)://`, `file://`
    /// or the absolute path of a folder. Empty: this machine is not updated.
    pub repositories: Vec<String>,
    /// Which channel of it.
    pub channel: String,
    /// How much is done without being asked.
    pub mode: Mode,
    /// Between two checks for news; see [`crate::check_delay`].
    pub check_interval: Duration,
    /// How long everything must be healthy without a break before a new release
    /// is blessed.
    pub health_time: Duration,
    /// How long after the boot a new release that is not blessed is given up.
    pub health_limit: Duration,
    /// Bytes a second.
    pub rate_limit: Option<u64>,
    /// Simultaneous connections to one server.
    pub connections: usize,
    /// `http(s)://`, for the repositories and the FleetLock server.
    pub proxy: Option<String>,
    /// A PEM file of authorities that are trusted beside the usual ones.
    pub certificates: Option<PathBuf>,
    /// When the machine may reboot by itself.
    pub windows: Windows,
    /// Who coordinates the reboots of the fleet.
    pub fleet_lock: Option<LockServer>,
    /// The least time from staging a release to the reboot.
    pub reboot_delay: Duration,
    /// The time over which simultaneous reboots are spread.
    pub reboot_spread: Duration,
}

/// How much is done without being asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// All of it.
    Automatic,
    /// A release is fetched and staged; the operator reboots.
    Download,
    /// Only checks are made.
    Manual,
}

/// A FleetLock server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockServer {
    /// Its address, without the protocol's own paths.
    pub url: String,
    /// The machine's group there.
    pub group: String,
    /// The machine's name there; `None`: derived from its machine id.
    pub id: Option<String>,
}

impl LockServer {
    /// The machine's identity there.
    pub fn client(&self, machine: &MachineId) -> Client {
        Client {
            url: self.url.clone(),
            group: self.group.clone(),
            id: self
                .id
                .clone()
                .unwrap_or_else(|| machine.derived(LOCK_PURPOSE)),
        }
    }
}

/// A random constant: it must not change, or machines change their names on
/// their servers.
const LOCK_PURPOSE: [u8; 16] = [
    0x3d, 0x8f, 0x52, 0xb1, 0x0c, 0x6e, 0x4a, 0x97, 0x9a, 0x24, 0xe7, 0x15, 0xcb, 0x60, 0x7f, 0x38,
];

impl Default for Config {
    fn default() -> Self {
        Self {
            repositories: Vec::new(),
            channel: "stable".to_owned(),
            mode: Mode::Automatic,
            check_interval: Duration::from_secs(3600),
            health_time: Duration::from_secs(120),
            health_limit: Duration::from_secs(600),
            rate_limit: None,
            connections: 4,
            proxy: None,
            certificates: None,
            windows: Windows::any(),
            fleet_lock: None,
            reboot_delay: Duration::from_secs(60),
            reboot_spread: Duration::from_secs(300),
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Automatic => "automatic",
            Self::Download => "download",
            Self::Manual => "manual",
        })
    }
}

/// A key of the file, as the manual page has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// With the table that it stands in: `fleet-lock.url`.
    pub name: &'static str,
    /// As written in the file.
    pub default: &'static str,
}

macro_rules! keys {
    ($($name:literal = $default:literal),* $(,)?) => {
        &[$(Key { name: $name, default: $default }),*]
    };
}

/// Every key that the file may have.
pub const KEYS: &[Key] = keys! {
    "repository" = "none",
    "channel" = "\"stable\"",
    "mode" = "\"automatic\"",
    "check-interval" = "\"1h\"",
    "health-time" = "\"2m\"",
    "health-limit" = "\"10m\"",
    "rate-limit" = "\"none\"",
    "connections" = "4",
    "proxy" = "\"none\"",
    "certificates" = "\"none\"",
    "time-zone" = "\"UTC\"",
    "windows" = "[]",
    "windows.days" = "every day",
    "windows.start" = "required",
    "windows.length" = "required",
    "fleet-lock" = "\"none\"",
    "fleet-lock.url" = "required",
    "fleet-lock.group" = "\"default\"",
    "fleet-lock.id" = "derived",
    "reboot-delay" = "\"1m\"",
    "reboot-spread" = "\"5m\"",
};

impl Config {
    /// Parses a file's text over the defaults. The path is only for the error.
    ///
    /// # Errors
    /// The first mistake in the file.
    pub fn parse(path: &Path, text: &str) -> Result<Self, config::Error> {
        Self::default().overlaid(path, text)
    }

    /// This configuration, with what the file's text says instead: the image's
    /// file first, then the machine's.
    ///
    /// # Errors
    /// The first mistake in the file.
    pub fn overlaid(self, path: &Path, text: &str) -> Result<Self, config::Error> {
        config::parse(&path.display().to_string(), text, |file| {
            file::overlay(self, file)
        })
    }
}

#[cfg(test)]
mod tests;
