//! What was done: for PID 1, the log and the operator. The format is specified
//! in `docs/state.md`.

use std::path::Path;

use serde::{Serialize, Serializer};

/// How it ended. The numbers are the program's exit codes and part of its
/// interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Outcome {
    /// Nothing was wrong, and nothing was changed.
    Clean = 0,
    /// Something was grown or repaired; the data is kept.
    Changed = 1,
    /// The file system was made: it is empty.
    Made = 2,
    /// The file system is damaged beyond repair. Nothing was erased.
    Unrepairable = 10,
    /// There is other data in the partition. It was not touched.
    Foreign = 11,
    /// The disk could not be read or written, or the kernel refused.
    Io = 12,
    /// The partition table cannot be used, or has no room.
    Table = 13,
    /// A program of e2fsprogs could not be run, or failed.
    Tool = 14,
}

impl Outcome {
    /// The exit code.
    pub fn exit_code(self) -> u8 {
        self as u8
    }

    fn word(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Changed => "changed",
            Self::Made => "made",
            Self::Unrepairable => "unrepairable",
            Self::Foreign => "foreign",
            Self::Io => "io-error",
            Self::Table => "table-error",
            Self::Tool => "tool-error",
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// The report.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// How it ended.
    pub result: Outcome,
    /// The state partition's device node on the machine, where there is a
    /// partition.
    pub device: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// What was done, and what went wrong, a sentence each.
    pub notes: Vec<String>,
}

impl Report {
    /// Prints it as one line and writes it to `path`.
    pub fn publish(&self, path: &Path) {
        let line = match serde_json::to_string(self) {
            Ok(line) => line,
            Err(error) => return say(&format!("cannot write the report: {error}")),
        };
        println!("{line}");
        // PID 1 reads it whole or not at all.
        if let Err(error) = atomic_file::replace_volatile(path, (line + "\n").as_bytes()) {
            say(&format!(
                "cannot write the report to {}: {error}",
                path.display()
            ));
        }
    }
}

fn say(text: &str) {
    service::say(service::Level::Error, text);
}
