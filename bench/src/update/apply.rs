//! Updates applied for real: the updater, on a disk image with the old release,
//! from a server on loopback; and `dd` of the same bytes beside it.

use super::Pair;
use anyhow::{Context, Result, bail, ensure};
use machine::{Build, Server};
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use wherry_release::progress::Silent;
use wherry_release::{Init, KeyFolder, Publish, ReleaseFolder, Repository};

/// A repository with all releases, and the updater.
pub struct Site {
    updater: PathBuf,
    server: Server,
    folder: PathBuf,
}

/// One update.
#[derive(Debug, Clone, Copy)]
pub struct Applied {
    /// Bytes that the server sent, metadata included.
    pub fetched: u64,
    /// From the program's start to its end.
    pub time: Duration,
    /// Its processor time.
    pub cpu: Duration,
    /// The most memory that was resident.
    pub peak_rss: u64,
    /// Bytes that it wrote to the disk.
    pub written: u64,
}

/// What the updater says at its end.
#[derive(Debug, Deserialize)]
struct Report {
    changed: bool,
    written: u64,
    peak_rss_kib: u64,
    cpu_ms: u64,
}

impl Site {
    /// Publishes the releases of all pairs, below `folder`, for this program. The
    /// files of each are in `VERSION/release`.
    pub fn make(updater: PathBuf, folder: &Path, pairs: &[Pair]) -> Result<Self> {
        for part in ["keys", "repository", "state"] {
            remove(&folder.join(part))?;
        }
        let keys = KeyFolder::make(&folder.join("keys"), 1)?;
        let place = folder.join("repository");
        let mut repository = Repository::init(&place, keys, &Init::default())?;
        for pair in pairs {
            let files = folder.join(&pair.version).join("release");
            let version = pair.version.parse()?;
            let release = ReleaseFolder::open(&files, Some(&version), &Silent)?;
            let publish = Publish {
                channel: channel(pair),
                ..Publish::default()
            };
            repository.publish(&release, &publish, &Silent)?;
        }
        Ok(Self {
            updater,
            server: Server::serve(place)?,
            folder: folder.to_owned(),
        })
    }

    /// Applies one to a fresh disk with the old release.
    pub fn apply(&self, pair: &Pair) -> Result<Applied> {
        let disk = self.folder.join("disk.raw");
        machine::copy_sparse(&pair.old.disk_image()?, &disk, 0)?;
        File::open(&disk)?.sync_all()?;
        let state = self.folder.join("state");
        remove(&state)?;
        let before = self.server.bytes();
        let mut updater = Command::new(&self.updater);
        updater
            .args(["install", "--json", "--disk"])
            .arg(&disk)
            .args(["--booted", &root_hash(&pair.old)?])
            .args(["--repository", &self.server.address()])
            .arg("--trust")
            .arg(self.folder.join("keys/root.json"))
            .args(["--channel", &channel(pair), "--state"])
            .arg(&state);
        let start = Instant::now();
        let output = updater
            .output()
            .with_context(|| format!("start {}", self.updater.display()))?;
        let time = start.elapsed();
        if !output.status.success() {
            bail!(
                "the updater could not install {}: {}",
                pair.version,
                String::from_utf8_lossy(&output.stderr)
            );
        }
        let report: Report =
            serde_json::from_slice(&output.stdout).context("read what the updater says")?;
        ensure!(report.changed, "the updater installed nothing");
        Ok(Applied {
            fetched: self.server.bytes() - before,
            time,
            cpu: Duration::from_millis(report.cpu_ms),
            peak_rss: report.peak_rss_kib << 10,
            written: report.written,
        })
    }

    /// `dd` of root, hash tree and kernel image to a disk of that size, flushed.
    pub fn dd(&self, pair: &Pair) -> Result<Duration> {
        let (image, disk) = (self.folder.join("bytes"), self.folder.join("dd.raw"));
        let mut all = File::create(&image)?;
        for part in [pair.new.root()?, pair.new.hash_tree()?, pair.new.uki()?] {
            io::copy(&mut File::open(part)?, &mut all)?;
        }
        all.sync_all()?;
        machine::copy_sparse(&pair.old.disk_image()?, &disk, 0)?;
        File::open(&disk)?.sync_all()?;
        let mut dd = Command::new("dd");
        dd.arg(format!("if={}", image.display()))
            .arg(format!("of={}", disk.display()))
            // Behind the ESP and slot A, where the disk is empty.
            .args(["bs=1M", "seek=400", "conv=notrunc,fdatasync", "status=none"]);
        let start = Instant::now();
        let status = dd.status().context("start dd")?;
        let time = start.elapsed();
        ensure!(status.success(), "dd failed");
        Ok(time)
    }
}

fn remove(folder: &Path) -> Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", folder.display()))
        }
        _ => Ok(()),
    }
}

fn channel(pair: &Pair) -> String {
    format!("to-{}", pair.version)
}

fn root_hash(build: &Build) -> Result<String> {
    build
        .command_line()?
        .split_whitespace()
        .find_map(|word| word.strip_prefix("roothash="))
        .map(str::to_owned)
        .context("no roothash= on the command line")
}
