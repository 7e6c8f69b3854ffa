//! The file in which the updater remembers: `record.json`.
//!
//! A record that cannot be read is put aside, one that cannot be written is kept
//! in memory; both are reported, and everything else continues.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use lifecycle::Record;
use release::Version;

/// The longest record that is read, in bytes.
const LONGEST: usize = 1 << 20;

/// The file, and what is in it.
#[derive(Debug)]
pub struct Keeper {
    path: PathBuf,
    /// What is on the disk.
    saved: Option<Record>,
    /// What is wrong with the file, a sentence.
    pub problem: Option<String>,
}

impl Keeper {
    /// Reads the record in `folder`. It never fails: an unreadable record is
    /// put aside, `problem` says so, and nothing is remembered.
    pub fn open(folder: &Path, running: &Version) -> (Self, Record) {
        let path = folder.join("record.json");
        let mut problem = None;
        let saved = match read(&path) {
            Ok(None) => None,
            Ok(Some(text)) => match Record::parse(&text) {
                Ok(record) => Some(record),
                Err(error) => {
                    problem = Some(put_aside(&path, &error.to_string()));
                    None
                }
            },
            Err(error) => {
                problem = Some(format!("nothing is remembered: {error}"));
                None
            }
        };
        let record = saved
            .clone()
            .unwrap_or_else(|| Record::new(running.clone()));
        let keeper = Self {
            path,
            saved,
            problem,
        };
        (keeper, record)
    }

    /// Writes the record if it has changed; after a power cut the file is the old
    /// or the new one. Returns a new problem.
    pub fn save(&mut self, record: &Record) -> Option<String> {
        if self.saved.as_ref() == Some(record) {
            return None;
        }
        match replace(&self.path, record) {
            Ok(()) => {
                self.saved = Some(record.clone());
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

fn read(path: &Path) -> Result<Option<String>, config::Error> {
    let bytes = config::read_bytes(path, LONGEST)?;
    // The parser reports bytes that are not text.
    Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
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
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    atomic_file::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lifecycle::{HistoryEntry, Kind};

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
    fn a_written_record_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (mut keeper, mut record) = Keeper::open(folder.path(), &version("1.0"));
        assert_eq!(keeper.problem, None);
        record.note(entry("2.0"));
        record.standing.pin = Some(version("2.0"));
        assert_eq!(keeper.save(&record), None);
        let (_, again) = Keeper::open(folder.path(), &version("2.0"));
        assert_eq!(again.history, record.history);
        assert_eq!(again.standing.pin, Some(version("2.0")));
    }

    #[test]
    fn a_broken_record_is_put_aside_and_reported() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        for broken in [
            "{\"format\":1,",
            "\u{0}\u{0}",
            "{\"format\":9,\"standing\":{\"running\":\"1\"}}",
        ] {
            fs::write(&path, broken).unwrap();
            let (mut keeper, mut record) = Keeper::open(folder.path(), &version("1.0"));
            let problem = keeper.problem.clone().unwrap();
            assert!(problem.contains("record.json.broken"), "{problem}");
            let aside = fs::read_to_string(folder.path().join("record.json.broken")).unwrap();
            assert_eq!(aside, broken);
            record.note(entry("2.0"));
            assert_eq!(keeper.save(&record), None);
        }
    }

    #[test]
    fn a_record_that_cannot_be_written_is_reported_once_and_stays_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        // A file where the folder should be: not even user 0 can write below it.
        let blocked = folder.path().join("updater");
        fs::write(&blocked, "").unwrap();
        let (mut keeper, mut record) = Keeper::open(&blocked, &version("1.0"));
        record.note(entry("2.0"));
        assert!(keeper.save(&record).is_some());
        assert_eq!(keeper.save(&record), None);
        assert!(keeper.problem.is_some());
        assert_eq!(record.history.len(), 1);
        fs::remove_file(&blocked).unwrap();
        assert_eq!(keeper.save(&record), None);
        assert_eq!(keeper.problem, None);
    }

    /// Hostile: A service that can write the updater's folder puts a FIFO, a device or an endless file in the record's place. Outcome: The updater waits for nothing, names the file, and goes on with its record in memory.
    #[test]
    fn what_is_no_file_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.json");
        let mode = nix::sys::stat::Mode::from_bits_truncate(0o600);
        let places: [&dyn Fn(); 3] = [
            &|| nix::unistd::mkfifo(&path, mode).unwrap(),
            &|| std::os::unix::fs::symlink("/dev/zero", &path).unwrap(),
            &|| fs::create_dir(&path).unwrap(),
        ];
        for place in places {
            place();
            let (keeper, record) = Keeper::open(folder.path(), &version("1.0"));
            let problem = keeper.problem.unwrap();
            assert!(problem.contains("record.json: is "), "{problem}");
            assert!(record.history.is_empty());
            let _ = fs::remove_file(&path).or_else(|_| fs::remove_dir(&path));
        }
    }
}
