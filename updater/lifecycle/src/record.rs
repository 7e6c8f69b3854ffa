//! What the updater remembers from one run to the next: `record.json`.
//!
//! None of it is needed to boot, or to continue an update that was interrupted:
//! the disk says how far that came. So a machine whose record is lost or cannot be
//! written goes on.

use std::collections::BTreeMap;

use jiff::Timestamp;
use policy::Standing;
use release::{Manifest, RootHash, Version};
use serde::{Deserialize, Serialize};

use crate::boot_evidence::BootSeen;
use crate::event::RestartWhen;

/// The record's form.
const FORMAT: u32 = 1;
/// So many things that were done are remembered.
const HISTORY: usize = 200;

/// What kind of thing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A release was installed and boots next.
    Installed,
    /// A release could not be installed.
    InstallFailed,
    /// A release has proven itself.
    Blessed,
    /// A release gave way to another.
    FellBack,
    /// Somebody rolled back.
    RolledBack,
    /// A slot that had gone bad was written again.
    Repaired,
    /// A try was given back.
    Credited,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HistoryEntry {
    /// When.
    pub time: Timestamp,
    /// What kind of thing.
    pub kind: Kind,
    /// The release before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Version>,
    /// The release that it is about.
    pub to: Version,
    /// Why, or what went wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Bytes that were fetched.
    #[serde(default)]
    pub fetched: u64,
    /// Bytes that were here.
    #[serde(default)]
    pub reused: u64,
}

/// A release that is to boot next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Staged {
    /// Its version.
    pub version: Version,
    /// Its root hash.
    pub root_hash: RootHash,
    /// Since when.
    pub since: Timestamp,
    /// When the machine restarts into it.
    #[serde(default, rename = "reboot")]
    pub restart: RestartWhen,
    /// What is needed to make it known to the boot loader; `None`: it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<Box<Manifest>>,
}

/// A release whose slot has gone bad.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Damaged {
    /// Its version.
    pub version: Version,
    /// Its root hash.
    pub root_hash: RootHash,
    /// What was seen of it.
    pub reason: String,
}

/// A check for news.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// When.
    pub time: Timestamp,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What was found, a sentence.
    #[serde(default)]
    pub found: String,
}

/// All of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    format: u32,
    /// What the policy needs.
    pub standing: Standing,
    /// What was done, oldest first.
    #[serde(default)]
    pub history: Vec<HistoryEntry>,
    /// The last boot that the updater saw.
    #[serde(default)]
    pub boot: Option<BootSeen>,
    /// What is to boot next.
    #[serde(default)]
    pub staged: Option<Staged>,
    /// What is to be written again.
    #[serde(default)]
    pub damaged: Option<Damaged>,
    /// What was left on purpose.
    #[serde(default)]
    pub left: Vec<RootHash>,
    /// How many tries were given back, by root hash.
    #[serde(default)]
    pub credits: BTreeMap<String, u32>,
    /// The last check.
    #[serde(default)]
    pub last_check: Option<Check>,
    /// How many checks there were.
    #[serde(default)]
    pub checks: u64,
    /// The server that may hold a slot for this machine's reboot.
    #[serde(default)]
    pub lock: Option<policy::Client>,
}

/// A text that is no record.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not JSON of this form.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
    /// It has a format that this program does not know.
    #[error("its format is {0}, not {known}", known = FORMAT)]
    Format(u32),
}

impl Record {
    /// Of a machine about which nothing is remembered.
    pub fn new(running: Version) -> Self {
        Self {
            format: FORMAT,
            standing: Standing::new(running),
            history: Vec::new(),
            boot: None,
            staged: None,
            damaged: None,
            left: Vec::new(),
            credits: BTreeMap::new(),
            last_check: None,
            checks: 0,
            lock: None,
        }
    }

    /// Adds to the history.
    pub fn note(&mut self, event: HistoryEntry) {
        self.history.push(event);
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
    }

    /// Reads the text of `record.json`.
    ///
    /// # Errors
    /// It is not JSON of this form.
    pub fn parse(text: &str) -> Result<Self, RecordError> {
        let record: Self = serde_json::from_str(text)?;
        if record.format == FORMAT {
            Ok(record)
        } else {
            Err(RecordError::Format(record.format))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn entry(to: &str) -> HistoryEntry {
        HistoryEntry {
            time: Timestamp::UNIX_EPOCH,
            kind: Kind::Installed,
            from: None,
            to: version(to),
            reason: String::new(),
            fetched: 1,
            reused: 2,
        }
    }

    #[test]
    fn only_so_much_is_remembered() {
        let mut record = Record::new(version("1.0"));
        for number in 0..HISTORY + 5 {
            record.note(entry(&format!("{number}.0")));
        }
        assert_eq!(record.history.len(), HISTORY);
        assert_eq!(record.history[0].to, version("5.0"));
    }
}
