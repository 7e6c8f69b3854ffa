//! Checks a complete repository: as a machine does, and every byte.

use std::collections::BTreeMap;
use std::path::Path;

use jiff::Timestamp as Time;
use release::{BlockIndex, Manifest, UkiIndex};
use serde::Serialize;
use tough::RepositoryLoader;
use url::Url;

use crate::artifacts;
use crate::error::{Error, Result};
use crate::files;
use crate::keys::Role;
use crate::metadata::{Layout, Metadata, expiries};
use crate::progress::Progress;

/// What was found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Channels.
    pub channels: usize,
    /// Releases.
    pub releases: usize,
    /// Files of releases whose SHA-256 was checked.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// When each role's metadata expires, with its version.
    pub expires: Vec<(Role, u64, Time)>,
    /// What is wrong.
    pub problems: Vec<String>,
    /// Warnings.
    pub remarks: Vec<String>,
}

/// Verifies a repository with the pinned root `trust`.
///
/// # Errors
/// Something cannot be read at all; other problems are in the report.
pub fn verify(folder: &Path, trust: &Path, now: Time, progress: &dyn Progress) -> Result<Report> {
    let layout = Layout(folder.to_owned());
    let mut report = Report::default();
    let metadata = match Metadata::load(&layout, trust) {
        Ok(metadata) => metadata,
        Err(error) => {
            report.problems.push(chain(&error));
            return Ok(report);
        }
    };
    report.expires = expiries(&metadata).to_vec();
    for (role, version, expires) in &report.expires {
        if *expires <= now {
            report
                .problems
                .push(format!("{role} (version {version}) expired at {expires}"));
        }
    }
    if report.problems.is_empty()
        && let Err(problem) = as_a_machine(folder, trust)
    {
        report.problems.push(problem);
    }
    report.channels = metadata.channels.len();
    let mut releases: BTreeMap<&str, &Manifest> = BTreeMap::new();
    for channel in metadata.channels.values() {
        for offer in &channel.offers {
            let manifest = &offer.manifest;
            let known = *releases
                .entry(manifest.version.as_str())
                .or_insert(manifest);
            if known.artifacts() != manifest.artifacts() {
                report.problems.push(format!(
                    "{} has different files on {} than on another channel",
                    manifest.version, channel.name
                ));
            }
        }
    }
    for manifest in releases.values() {
        report.releases += 1;
        if let Err(error) = verify_release(folder, manifest, &mut report, progress) {
            report.problems.push(chain(&error));
        }
    }
    for path in files::entries(&layout.releases())? {
        let name = files::name(&path);
        if !releases.contains_key(name.as_str()) {
            report
                .remarks
                .push(format!("{} is not on any channel", path.display()));
        }
    }
    Ok(report)
}

fn verify_release(
    folder: &Path,
    manifest: &Manifest,
    report: &mut Report,
    progress: &dyn Progress,
) -> Result<()> {
    let total = manifest.artifacts().iter().map(|(_, a)| a.length).sum();
    progress.begin(&format!("hashing {}", manifest.version), total);
    let before = report.problems.len();
    for (_, artifact) in manifest.artifacts() {
        let path = folder.join(&artifact.path);
        match files::measure(&path, progress) {
            Ok((length, _)) if length != artifact.length => report.problems.push(format!(
                "{} has {length} bytes, but the manifest says {}",
                path.display(),
                artifact.length
            )),
            Ok((_, sha256)) if sha256 != artifact.sha256 => report.problems.push(format!(
                "{} has SHA-256 {sha256}, but the manifest says {}",
                path.display(),
                artifact.sha256
            )),
            Ok(_) => {}
            Err(error) => report.problems.push(chain(&error)),
        }
        report.files += 1;
        report.bytes += artifact.length;
    }
    if report.problems.len() > before {
        return Ok(());
    }
    // The hashes are right; does what was signed make sense?
    let file = |path: &str| folder.join(path);
    let uki = file(&manifest.uki.path);
    let checked = artifacts::check(
        &file(&manifest.root.path),
        &file(&manifest.tree.path),
        &uki,
        progress,
    )?;
    let mut differs = |what: &str, same: bool| {
        if !same {
            report.problems.push(format!(
                "{}: the manifest's {what} does not match its files",
                manifest.version
            ));
        }
    };
    differs("root_hash", checked.root_hash == manifest.root_hash);
    differs("verity", checked.verity == manifest.verity);
    differs("version", checked.version == manifest.version);
    let bytes = files::read(&file(&manifest.root_index.path), manifest.root_index.length)?;
    let index = BlockIndex::parse(&bytes, manifest.verity.data_blocks);
    differs("root_index", index.as_ref() == Ok(&checked.index));
    let bytes = files::read(&file(&manifest.uki_index.path), manifest.uki_index.length)?;
    let index = UkiIndex::parse(&bytes, manifest.uki.length).ok();
    let ours = UkiIndex::of(&files::read(&uki, release::MAX_UKI)?).ok();
    differs("uki_index", ours.is_some() && index == ours);
    Ok(())
}

/// Reads the metadata with tough's client, which the machines use.
fn as_a_machine(folder: &Path, trust: &Path) -> std::result::Result<(), String> {
    let trust = std::fs::read(trust).map_err(|error| error.to_string())?;
    let folder = std::path::absolute(folder).map_err(|error| error.to_string())?;
    let base = |name: &str| {
        Url::from_directory_path(folder.join(name)).map_err(|()| "no path for a URL".to_owned())
    };
    let (metadata, targets) = (base("metadata")?, base("targets/channels")?);
    // In a thread of its own, since the caller may be in a runtime.
    std::thread::scope(|scope| {
        let load = || {
            tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(|error| error.to_string())?
                .block_on(RepositoryLoader::new(&trust, metadata, targets).load())
                .map(|_| ())
                .map_err(|error| format!("a machine would refuse it: {error}"))
        };
        scope
            .spawn(load)
            .join()
            .unwrap_or_else(|_| Err("the client panicked".to_owned()))
    })
}

fn chain(error: &Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
