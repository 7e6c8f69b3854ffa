//! What is done about what is found.
//!
//! ```text
//! no table ─────────────────────────────────────────────▶ table-error
//! no partition ── space free of others' data ─▶ add, unfinished ─▶ make
//!             └── a file system of ours in it ─▶ add ─▶ as below
//! partition ── unfinished ─────────────────────────────▶ make
//!          ├── empty ──────────────────────────────────▶ make
//!          ├── ext4 ── grow ── sound ──────────────────▶ clean / changed
//!          │              └── damaged ─ e2fsck ────────▶ changed
//!          │                                  └────────▶ unrepairable, or make
//!          └── others' data ───────────────────────────▶ foreign, or make
//! ```
//! "or make" is the erase policy. To make is: name the partition `state-new`,
//! clear it, make the file system, name it `state`. Each arrow is on the disk
//! before the next begins, and each state of the disk leads on by the same
//! table, so it does not matter where a run was cut off.

use std::fmt::Display;
use std::fs;
use std::io::{self, Read};

use layout::partition::{STATE, STATE_UNFINISHED};
use partition_table::{Table, gpt, rewrite};

use crate::arguments::Request;
use crate::content::{self, Content};
use crate::device::{KernelDisk, Partition};
use crate::filesystem::{self, Check};
use crate::report::{Outcome, Report};
use crate::table::{self, Obstacle, StatePartition};

/// A step that failed: how the run ends, and a sentence.
type Failure = (Outcome, String);

/// Makes the partition ready, and reports.
pub fn prepare(request: &Request) -> Report {
    // A report of an earlier run must not be taken for this one's.
    let _ = fs::remove_file(&request.report);
    let mut run = Run {
        request,
        notes: Vec::new(),
        changed: false,
        partition: None,
    };
    let result = match run.prepare() {
        Ok(outcome) => outcome,
        Err((outcome, sentence)) => {
            run.notes.push(sentence);
            outcome
        }
    };
    Report {
        result,
        device: run
            .partition
            .as_ref()
            .map(|partition| partition.node.display().to_string()),
        size: run.partition.as_ref().map(|partition| partition.length),
        notes: run.notes,
    }
}

struct Run<'a> {
    request: &'a Request,
    notes: Vec<String>,
    changed: bool,
    partition: Option<Partition>,
}

impl Run<'_> {
    fn prepare(&mut self) -> Result<Outcome, Failure> {
        let path = self.request.disk.display().to_string();
        let disk = KernelDisk::open(&self.request.disk).map_err(io_failure(&path, "open"))?;
        let mut table = self.read_table(&disk, &path)?;
        let place = match table::find(&table).map_err(table_failure(&path))? {
            Some(place) => place,
            None => self.add(&disk, &mut table, &path)?,
        };
        if self
            .request
            .partition
            .is_some_and(|number| number != place.number)
        {
            return Err((
                Outcome::Table,
                format!("the kernel has another partition table of {path} than the disk: reboot"),
            ));
        }
        if place.unfinished {
            return self.make(&disk, table, place, "its making was not finished");
        }
        let partition = self.open(&disk, place)?;
        let content = content::examine(&partition.file, 0, partition.length)
            .map_err(io_failure(&path, "read"))?;
        self.partition = Some(partition);
        match content {
            Content::Empty => self.make(&disk, table, place, "it was empty"),
            Content::Foreign(kind) => self.refuse(&disk, table, place, kind),
            Content::Unknown => self.refuse(&disk, table, place, "data of an unknown form"),
            Content::Ext4(superblock) => {
                let place = self.grow(&disk, &mut table, place)?;
                if superblock.is_sound
                    && superblock.size() <= place.length
                    && !self.request.full_check
                {
                    return Ok(self.outcome());
                }
                self.check(&disk, table, place, &[])
            }
            Content::Ext4Damaged { copies } => {
                let place = self.grow(&disk, &mut table, place)?;
                self.check(&disk, table, place, &copies)
            }
        }
    }

    fn read_table(&mut self, disk: &KernelDisk, path: &str) -> Result<Table, Failure> {
        let found = gpt::read(&disk.disk).map_err(io_failure(path, "read"))?;
        let Some(copy) = found.valid() else {
            return Err((
                Outcome::Table,
                format!("{path} has no valid GUID partition table"),
            ));
        };
        if found.primary.is_none() {
            self.notes.push(format!(
                "the partition table of {path} was damaged; its back-up was used"
            ));
        }
        table::fitted(&copy.table, disk.disk.count()).map_err(table_failure(path))
    }

    /// Adds a partition where there is none.
    fn add(
        &mut self,
        disk: &KernelDisk,
        table: &mut Table,
        path: &str,
    ) -> Result<StatePartition, Failure> {
        let number = table::add(
            table,
            random_guid().map_err(io_failure("", "make an id for"))?,
        )
        .map_err(table_failure(path))?;
        let place = found(table, path)?;
        let content = content::examine(disk.disk.device.file(), place.start, place.length)
            .map_err(io_failure(path, "read"))?;
        let others = match content {
            Content::Empty | Content::Unknown => None,
            // Its entry was lost: give it back.
            Content::Ext4(superblock) if superblock.label == STATE => {
                table::rename(table, number, STATE);
                None
            }
            Content::Ext4(_) | Content::Ext4Damaged { .. } => Some("ext4"),
            Content::Foreign(kind) => Some(kind),
        };
        if let Some(kind) = others
            && !self.request.erase
        {
            return Err((
                Outcome::Foreign,
                format!(
                    "{path} has no state partition, and the unused space at byte {} holds {kind}: \
                     nothing was touched; {ERASE}",
                    place.start
                ),
            ));
        }
        self.rewrite(disk, table)?;
        self.notes.push(format!(
            "{path} had no state partition: number {number} was added"
        ));
        found(table, path)
    }

    fn refuse(
        &mut self,
        disk: &KernelDisk,
        table: Table,
        place: StatePartition,
        kind: &str,
    ) -> Result<Outcome, Failure> {
        if self.request.erase {
            return self.make(disk, table, place, &format!("it held {kind}"));
        }
        Err((
            Outcome::Foreign,
            format!(
                "the state partition, number {}, holds {kind}: nothing was touched; {ERASE}",
                place.number
            ),
        ))
    }

    /// Grows the partition; the file system is grown when it is mounted.
    fn grow(
        &mut self,
        disk: &KernelDisk,
        table: &mut Table,
        place: StatePartition,
    ) -> Result<StatePartition, Failure> {
        table::grow(table, place.number);
        self.rewrite(disk, table)?;
        let grown = found(table, "the disk")?;
        let partition = self.open(disk, grown)?;
        if grown.length != place.length {
            self.notes.push(format!(
                "{} was grown from {} to {} MiB",
                partition.node.display(),
                place.length >> 20,
                grown.length >> 20
            ));
        }
        self.partition = Some(partition);
        Ok(grown)
    }

    fn check(
        &mut self,
        disk: &KernelDisk,
        table: Table,
        place: StatePartition,
        copies: &[(u64, u64)],
    ) -> Result<Outcome, Failure> {
        let Some(partition) = &self.partition else {
            return Ok(self.outcome());
        };
        let name = partition.node.display().to_string();
        let checked = filesystem::check(&partition.node, self.request.full_check, copies)
            .map_err(|error| (Outcome::Tool, error.to_string()))?;
        match checked {
            Check::Clean => {
                self.notes.push(format!(
                    "the file system of {name} was checked: it has no error"
                ));
                Ok(self.outcome())
            }
            Check::Repaired => {
                self.changed = true;
                self.notes.push(format!(
                    "the file system of {name} was damaged; it was repaired"
                ));
                Ok(self.outcome())
            }
            Check::Unrepairable if self.request.erase => {
                self.make(disk, table, place, "it was damaged beyond repair")
            }
            Check::Unrepairable => Err((
                Outcome::Unrepairable,
                format!(
                    "the file system of {name} is damaged beyond repair: nothing was erased; {ERASE}"
                ),
            )),
        }
    }

    /// Makes the file system, and the partition as large as it can be.
    fn make(
        &mut self,
        disk: &KernelDisk,
        mut table: Table,
        place: StatePartition,
        why: &str,
    ) -> Result<Outcome, Failure> {
        table::rename(&mut table, place.number, STATE_UNFINISHED);
        let place = self.grow(disk, &mut table, place)?;
        let Some(partition) = &self.partition else {
            return Ok(self.outcome());
        };
        let name = partition.node.display().to_string();
        content::clear(&partition.file, 0, partition.length).map_err(io_failure(&name, "clear"))?;
        filesystem::make(&partition.node, partition.length)
            .map_err(|error| (Outcome::Tool, error.to_string()))?;
        partition
            .file
            .sync_all()
            .map_err(io_failure(&name, "write"))?;
        table::rename(&mut table, place.number, STATE);
        self.rewrite(disk, &table)?;
        self.notes
            .push(format!("the file system of {name} was made anew: {why}"));
        Ok(Outcome::Made)
    }

    fn open(&self, disk: &KernelDisk, place: StatePartition) -> Result<Partition, Failure> {
        disk.partition(place).map_err(io_failure(
            &self.request.disk.display().to_string(),
            "open the state partition of",
        ))
    }

    fn rewrite(&mut self, disk: &KernelDisk, table: &Table) -> Result<(), Failure> {
        let path = self.request.disk.display().to_string();
        self.changed |= rewrite(&disk.disk, table)
            .map_err(io_failure(&path, "write the partition table of"))?;
        Ok(())
    }

    fn outcome(&self) -> Outcome {
        if self.changed {
            Outcome::Changed
        } else {
            Outcome::Clean
        }
    }
}

/// What the operator can do where something was refused.
const ERASE: &str = "boot with wherry.state=erase to make it anew";

fn found(table: &Table, path: &str) -> Result<StatePartition, Failure> {
    match table::find(table) {
        Ok(Some(place)) => Ok(place),
        Ok(None) => Err((Outcome::Table, format!("{path} has no state partition"))),
        Err(obstacle) => Err(table_failure(path)(obstacle)),
    }
}

fn io_failure(path: &str, doing: &str) -> impl FnOnce(io::Error) -> Failure {
    let step = format!("cannot {doing} {path}");
    move |error| (Outcome::Io, format!("{step}: {error}"))
}

fn table_failure(path: &str) -> impl Fn(Obstacle) -> Failure {
    let path = path.to_owned();
    move |obstacle| {
        let why: &dyn Display = match obstacle {
            Obstacle::Type { number } => &format!(
                "partition {number} is called state but has another type than Linux file system \
                 data"
            ),
            Obstacle::Ambiguous => &"more than one partition is called state",
            Obstacle::NoRoom => &"there is no state partition and no room for one",
            Obstacle::Shrunk => &"the disk is smaller than its partition table says",
        };
        (Outcome::Table, format!("{path}: {why}"))
    }
}

/// A random id (RFC 9562, version 4) as it is on the disk, whose first three
/// fields are little-endian.
fn random_guid() -> io::Result<[u8; 16]> {
    let mut guid = [0; 16];
    fs::File::open("/dev/urandom")?.read_exact(&mut guid)?;
    guid[7] = guid[7] & 0x0f | 0x40;
    guid[8] = guid[8] & 0x3f | 0x80;
    Ok(guid)
}
