//! What the updater remembers: `record.json`.
//!
//! None of it is needed to boot, or to go on with an update that was interrupted:
//! the disk says how far that came. So a record that cannot be read is put aside
//! and told, one that cannot be written is kept in memory and told, and
//! everything else goes on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use policy::Standing;
use release::{Manifest, RootHash, Version};
use serde::{Deserialize, Serialize};

use updater_control::Reboot;

use crate::boot_evidence::BootSeen;

/// The record's form.
const FORMAT: u32 = 1;
/// So many things that were done are remembered.
const HISTORY: usize = 200;
/// The longest record that is read, in bytes.
const LONGEST: u64 = 1 << 20;

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
    /// A slot that had gone bad was written anew.
    Mended,
    /// A try was given back.
    Credited,
}

/// One thing that was done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
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
    #[serde(default)]
    pub reboot: Reboot,
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
    pub history: Vec<Event>,
    /// The last boot that the updater saw.
    #[serde(default)]
    pub boot: Option<BootSeen>,
    /// What is to boot next.
    #[serde(default)]
    pub staged: Option<Staged>,
    /// What is to be written anew.
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
    pub fn note(&mut self, event: Event) {
        self.history.push(event);
        let surplus = self.history.len().saturating_sub(HISTORY);
        self.history.drain(..surplus);
    }

    fn parse(text: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if record.format == FORMAT {
            Ok(record)
        } else {
            Err(format!("its form is {}, not {FORMAT}", record.format))
        }
    }
}

/// The record with the file that it is kept in.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    saved: Option<Record>,
    /// What runs and is remembered.
    pub record: Record,
    /// What is wrong with the file, a sentence.
    pub problem: Option<String>,
}

impl Keeper {
    /// Reads the record in `folder`. It never fails: what cannot be read is put
    /// aside, and `problem` says so.
    pub fn open(folder: &Path, running: &Version) -> Self {
        let path = folder.join("record.json");
        let mut problem = None;
        let saved = match read(&path) {
            Ok(None) => None,
            Ok(Some(text)) => match Record::parse(&text) {
                Ok(record) => Some(record),
                Err(error) => {
                    problem = Some(put_aside(&path, &error));
                    None
                }
            },
            Err(error) => {
                problem = Some(format!(
                    "cannot read {}, so nothing is remembered: {error}",
                    path.display()
                ));
                None
            }
        };
        let mut record = saved
            .clone()
            .unwrap_or_else(|| Record::new(running.clone()));
        record.standing.running = running.clone();
        Self {
            path,
            saved,
            record,
            problem,
        }
    }

    /// Writes the record, where it has changed: the file is the old one or the
    /// new one, whenever the power goes. Returns what is newly wrong.
    pub fn save(&mut self) -> Option<String> {
        if self.saved.as_ref() == Some(&self.record) {
            return None;
        }
        match replace(&self.path, &self.record) {
            Ok(()) => {
                self.saved = Some(self.record.clone());
                self.problem = None;
                None
            }
            Err(error) => {
                let problem = format!(
                    "cannot write {}, so what is done is forgotten when the updater ends: {error}",
                    self.path.display()
                );
                let is_new = self.problem.as_ref() != Some(&problem);
                self.problem = Some(problem.clone());
                is_new.then_some(problem)
            }
        }
    }
}

fn read(path: &Path) -> io::Result<Option<String>> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > LONGEST => Err(io::Error::other(format!(
            "it is longer than {LONGEST} bytes"
        ))),
        Ok(_) => match fs::read(path) {
            // What is no text is no record: the parser says so.
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(error) => Err(error),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn put_aside(path: &Path, error: &str) -> String {
    let aside = path.with_extension("json.broken");
    let kept = match fs::rename(path, &aside) {
        Ok(()) => format!("it is kept as {}", aside.display()),
        Err(error) => format!("it cannot be put aside: {error}"),
    };
    format!(
        "{} is not understood ({error}), so history, pin and hold are forgotten; {kept}",
        path.display()
    )
}

fn replace(path: &Path, record: &Record) -> io::Result<()> {
    let text = serde_json::to_vec_pretty(record)?;
    let beside = path.with_extension("json.new");
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let mut file = File::create(&beside)?;
    let written = file.write_all(&text).and_then(|()| file.sync_all());
    if let Err(error) = written {
        // Half of it would take space that a full disk does not have.
        let _ = fs::remove_file(&beside);
        return Err(error);
    }
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(text: &str) -> Version {
        text.parse().unwrap()
    }

    fn event(to: &str) -> Event {
        Event {
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
    fn what_was_noted_is_there_the_next_time() {
        let folder = tempfile::tempdir().unwrap();
        let mut keeper = Keeper::open(folder.path(), &version("1.0"));
        assert_eq!(keeper.problem, None);
        keeper.record.note(event("2.0"));
        keeper.record.standing.pin = Some(version("2.0"));
        assert_eq!(keeper.save(), None);
        let again = Keeper::open(folder.path(), &version("2.0"));
        assert_eq!(again.record.history, keeper.record.history);
        assert_eq!(again.record.standing.pin, Some(version("2.0")));
        assert_eq!(again.record.standing.running, version("2.0"));
    }

    #[test]
    fn a_broken_record_is_put_aside_and_told() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        for broken in [
            "{\"format\":1,",
            "\u{0}\u{0}",
            "{\"format\":9,\"standing\":{\"running\":\"1\"}}",
        ] {
            fs::write(&path, broken).unwrap();
            let mut keeper = Keeper::open(folder.path(), &version("1.0"));
            let problem = keeper.problem.clone().unwrap();
            assert!(problem.contains("record.json.broken"), "{problem}");
            let aside = fs::read_to_string(folder.path().join("record.json.broken")).unwrap();
            assert_eq!(aside, broken);
            keeper.record.note(event("2.0"));
            assert_eq!(keeper.save(), None);
        }
    }

    #[test]
    fn a_record_that_cannot_be_written_is_told_once_and_stays_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        // A file where the folder should be: not even user 0 can write below it.
        let blocked = folder.path().join("updater");
        fs::write(&blocked, "").unwrap();
        let mut keeper = Keeper::open(&blocked, &version("1.0"));
        keeper.record.note(event("2.0"));
        assert!(keeper.save().is_some());
        assert_eq!(keeper.save(), None);
        assert!(keeper.problem.is_some());
        assert_eq!(keeper.record.history.len(), 1);
        fs::remove_file(&blocked).unwrap();
        assert_eq!(keeper.save(), None);
        assert_eq!(keeper.problem, None);
    }

    #[test]
    fn only_so_much_is_remembered() {
        let mut record = Record::new(version("1.0"));
        for number in 0..HISTORY + 5 {
            record.note(event(&format!("{number}.0")));
        }
        assert_eq!(record.history.len(), HISTORY);
        assert_eq!(record.history[0].to, version("5.0"));
    }
}
