//! The state partition, seen from PID 1.
//!
//! Nothing here but [`boot_disk`] is called by PID 1 itself: every function may wait for a disk,
//! so a forked child of PID 1 calls them and sends what comes back
//! ([`Outcome`], then [`Growth`]) through a pipe as one line of JSON each.
//! Mounts that the child makes are PID 1's too: they share a mount namespace.
//!
//! ```text
//! first pass ── Mounted ─────────────────────────────▶ grow
//!      └─ NeedsPreparation ─▶ container `state` exits
//!             └─ second pass ── Mounted ─────────────▶ grow
//!                      └─ Volatile (degraded)
//! ```
//!
//! The first pass does what nearly every boot needs: finds the partition by
//! its name on the disk that holds the root, sees that it is whole and its file
//! system sound, and mounts it. Whatever needs a tool (a partition to grow or
//! to make, a file system to check) is left to the container `state`; the
//! second pass then takes what is there, or a tmpfs. A file system known to be
//! damaged is never mounted. Nothing here writes to a block device but the
//! kernel's own ext4, so a power cut at any point leaves what the next boot
//! handles the same way.

mod locate;
mod mount;
mod report;
mod superblock;
mod sys;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use mount::{Growth, grow_mounted, sort_configurations};
pub use report::REPORT;

use block_device::sysfs::SysfsError;
use locate::Location;

/// Where the state is mounted.
pub const STATE: &str = "/state";

/// The paths that the passes work on: constants in PID 1, a directory of its
/// own in a test.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The kernel's sysfs.
    pub sys: PathBuf,
    /// devtmpfs.
    pub dev: PathBuf,
    /// The mount point of the state.
    pub state: PathBuf,
    /// Where the state's `var` is bound to.
    pub var: PathBuf,
    /// The container's report ([`REPORT`]).
    pub report: PathBuf,
}

impl Default for Paths {
    fn default() -> Self {
        Self {
            sys: "/sys".into(),
            dev: "/dev".into(),
            state: STATE.into(),
            var: "/var".into(),
            report: REPORT.into(),
        }
    }
}

/// The node of the disk that the system booted from; `None` where the root is on
/// none. Only this reads nothing but sysfs, so PID 1 itself may call it.
///
/// # Errors
/// What of sysfs cannot be read.
pub fn boot_disk() -> Result<Option<PathBuf>, String> {
    let paths = Paths::default();
    locate::locate(&paths.sys, Path::new("/"))
        .map(|location| location.map(|location| paths.dev.join(location.disk)))
        .map_err(|error| error.sentence())
}

/// Which of the two passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    /// Before the container `state`: anything unusual is left to it.
    First,
    /// After it, or where it could not be started: mount what is there, else a
    /// tmpfs.
    Second,
}

/// What was decided and done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "kebab-case")]
pub enum Outcome {
    /// The state partition is mounted.
    Mounted {
        /// Its device node, such as `/dev/vda6`.
        device: String,
        /// What is worth telling, a sentence each: what the container did,
        /// directories that could not be made.
        notes: Vec<String>,
    },
    /// The container `state` must run before anything is mounted.
    NeedsPreparation(Preparation),
    /// A tmpfs is mounted: the machine is degraded.
    Volatile {
        /// Why, a sentence each.
        reasons: Vec<String>,
    },
    /// Not even a tmpfs could be mounted.
    Failed {
        /// Why, a sentence each.
        reasons: Vec<String>,
    },
}

/// What the container `state` is asked to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preparation {
    /// The disk's device node, such as `/dev/vda`.
    pub disk: String,
    /// The partition's number, where there is a partition.
    pub partition: Option<u32>,
    /// Whether the file system must be checked whole even if it says that it
    /// is clean.
    pub full_check: bool,
    /// Why it is needed, a sentence.
    pub reason: String,
}

impl Preparation {
    /// The arguments that follow `/usr/bin/state` in the container's command
    /// (the manual page is `docs/state.md`). `erase` is `wherry.state=erase`.
    pub fn arguments(&self, erase: bool) -> Vec<String> {
        let partition = match self.partition {
            Some(number) => number.to_string(),
            None => "none".to_owned(),
        };
        [
            "prepare",
            "--disk",
            &self.disk,
            "--partition",
            &partition,
            "--check",
            if self.full_check { "full" } else { "quick" },
            "--erase-policy",
            if erase { "erase" } else { "keep" },
        ]
        .map(str::to_owned)
        .into()
    }
}

/// A step that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or directory could not be read, opened or made.
    #[error("cannot {doing} {}", path.display())]
    Path {
        /// What was tried, as in "cannot {doing} …".
        doing: &'static str,
        /// On what.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// sysfs could not be read, or holds something that is not understood.
    #[error(transparent)]
    Sysfs(#[from] SysfsError),
    /// A mount failed.
    #[error("cannot mount {} at {}", source_path.display(), target.display())]
    Mount {
        /// What was to be mounted.
        source_path: PathBuf,
        /// Where.
        target: PathBuf,
        /// The system's error.
        source: nix::Error,
    },
    /// The kernel refused to grow the file system.
    #[error("cannot grow the file system of {}", device.display())]
    Grow {
        /// The device.
        device: PathBuf,
        /// The system's error.
        source: nix::Error,
    },
}

impl Error {
    /// The step and its cause in one line, for the log and the status.
    pub fn sentence(&self) -> String {
        match std::error::Error::source(self) {
            Some(source) => format!("{self}: {source}"),
            None => self.to_string(),
        }
    }
}

/// Does one pass. It may be repeated: what is mounted already stays.
pub fn run(pass: Pass, paths: &Paths) -> Outcome {
    match pass {
        Pass::First => first_pass(paths),
        Pass::Second => second_pass(paths),
    }
}

fn first_pass(paths: &Paths) -> Outcome {
    let location = match locate::locate(&paths.sys, Path::new("/")) {
        Ok(Some(location)) => location,
        Ok(None) => return volatile(paths, vec![NO_DISK.to_owned()]),
        Err(error) => return volatile(paths, vec![error.sentence()]),
    };
    match obstacle(&location, paths) {
        Some((full_check, reason)) => Outcome::NeedsPreparation(Preparation {
            disk: node(paths, &location.disk),
            partition: location.partition.as_ref().map(|found| found.number),
            full_check,
            reason,
        }),
        None => Outcome::Mounted {
            device: location
                .partition
                .map(|found| node(paths, &found.device))
                .unwrap_or_default(),
            notes: mount::furnish(paths),
        },
    }
}

const NO_DISK: &str = "the root is not on a disk with partitions, so there is no state partition";

/// Whether the disk begins with a partition table. The kernel finds the
/// partitions without it, from the back-up; a firmware need not.
fn has_table(location: &Location, paths: &Paths) -> bool {
    let mut signature = [0; 8];
    File::open(paths.dev.join(&location.disk))
        .and_then(|disk| disk.read_exact_at(&mut signature, location.sector_size))
        .is_ok()
        && signature == *b"EFI PART"
}

/// Mounts the partition of `location`; or says what stands against it, and
/// whether that calls for a full check.
fn obstacle(location: &Location, paths: &Paths) -> Option<(bool, String)> {
    let Some(partition) = &location.partition else {
        return Some((false, format!("{} has no state partition", location.disk)));
    };
    if partition.free_behind >= locate::WORTH_GROWING {
        return Some((
            false,
            format!(
                "{} bytes behind {} are unused",
                partition.free_behind, partition.device
            ),
        ));
    }
    if !has_table(location, paths) {
        return Some((
            false,
            format!("the partition table of {} is damaged", location.disk),
        ));
    }
    let device = paths.dev.join(&partition.device);
    mount_sound(&device, paths).err()
}

/// Mounts `device` where its superblock says that it is sound, before and after
/// the journal was replayed.
fn mount_sound(device: &Path, paths: &Paths) -> Result<(), (bool, String)> {
    judge(device)?;
    mount::mount_state(device, &paths.state).map_err(|error| (true, error.sentence()))?;
    // Replaying the journal can bring an error to light that was noted there
    // only: the kernel then sets the flag in the superblock.
    judge(device).inspect_err(|_| mount::unmount(&paths.state))
}

fn judge(device: &Path) -> Result<(), (bool, String)> {
    let name = device.display();
    match superblock::read(device) {
        Ok(Some(superblock)) if superblock.is_sound => Ok(()),
        Ok(Some(_)) => Err((
            true,
            format!("the file system of {name} is marked as damaged"),
        )),
        Ok(None) => Err((true, format!("{name} holds no ext4 file system"))),
        Err(error) => Err((true, error.sentence())),
    }
}

fn second_pass(paths: &Paths) -> Outcome {
    let mut notes = Vec::new();
    let report = report::read(&paths.report).unwrap_or_else(|error| {
        notes.push(error);
        None
    });
    let device = match &report {
        Some(report) => {
            notes.extend(report.notes.iter().cloned());
            if report.forbids_mounting() {
                return volatile(paths, notes);
            }
            report
                .device
                .as_ref()
                .and_then(|device| device.rsplit('/').next())
                .map(|name| paths.dev.join(name))
        }
        None => {
            notes.push("the state container left no report".to_owned());
            match locate::locate(&paths.sys, Path::new("/")) {
                Ok(location) => location
                    .and_then(|location| location.partition)
                    .map(|partition| paths.dev.join(partition.device)),
                Err(error) => return volatile(paths, vec![error.sentence()]),
            }
        }
    };
    let Some(device) = device else {
        notes.push("there is no state partition to mount".to_owned());
        return volatile(paths, notes);
    };
    match mount_sound(&device, paths) {
        Ok(()) => {
            notes.extend(mount::furnish(paths));
            Outcome::Mounted {
                device: device.display().to_string(),
                notes,
            }
        }
        Err((_, reason)) => {
            if !notes.contains(&reason) {
                notes.push(reason);
            }
            volatile(paths, notes)
        }
    }
}

/// Mounts a tmpfs in the state's place.
fn volatile(paths: &Paths, mut reasons: Vec<String>) -> Outcome {
    match mount::mount_volatile(&paths.state) {
        Ok(()) => {
            reasons.extend(mount::furnish(paths));
            Outcome::Volatile { reasons }
        }
        Err(error) => {
            reasons.push(error.sentence());
            Outcome::Failed { reasons }
        }
    }
}

fn node(paths: &Paths, name: &str) -> String {
    paths.dev.join(name).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_container_is_asked_in_the_words_of_its_manual() {
        let preparation = Preparation {
            disk: "/dev/vda".to_owned(),
            partition: Some(6),
            full_check: true,
            reason: String::new(),
        };
        assert_eq!(
            preparation.arguments(false).join(" "),
            "prepare --disk /dev/vda --partition 6 --check full --erase-policy keep"
        );
        let preparation = Preparation {
            partition: None,
            full_check: false,
            ..preparation
        };
        assert_eq!(
            preparation.arguments(true).join(" "),
            "prepare --disk /dev/vda --partition none --check quick --erase-policy erase"
        );
    }

    #[test]
    fn an_outcome_survives_the_pipe() {
        for outcome in [
            Outcome::Mounted {
                device: "/dev/vda6".to_owned(),
                notes: vec!["grown".to_owned()],
            },
            Outcome::NeedsPreparation(Preparation {
                disk: "/dev/vda".to_owned(),
                partition: None,
                full_check: false,
                reason: "missing".to_owned(),
            }),
            Outcome::Volatile {
                reasons: vec!["why".to_owned()],
            },
        ] {
            let line = serde_json::to_string(&outcome).unwrap();
            assert_eq!(serde_json::from_str::<Outcome>(&line).unwrap(), outcome);
        }
    }
}
