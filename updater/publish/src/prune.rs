//! Removes what no machine needs any more.

use std::collections::BTreeSet;
use std::path::PathBuf;

use release::{Channel, Offer, Version};
use serde::Serialize;
use tough::schema::{Signed, Targets};

use crate::error::{Error, Result};
use crate::files;
use crate::keys::hexadecimal;
use crate::metadata::Scope;
use crate::repository::Repository;

/// What was removed.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Pruned {
    /// Offers, by channel and version.
    pub offers: Vec<(String, Version)>,
    /// Folders and files.
    pub removed: Vec<PathBuf>,
}

impl Repository {
    /// Removes all offers except the `keep` newest of each channel and those
    /// that a machine needs to reach the newest one (`min_version`); then the
    /// files that no channel names. With `dry_run` it only reports what it
    /// would remove.
    ///
    /// # Errors
    /// A key is missing, or something cannot be written or removed.
    pub fn prune(&mut self, keep: usize, dry_run: bool) -> Result<Pruned> {
        let mut pruned = Pruned::default();
        let mut channels = self.metadata.channels.clone();
        for channel in channels.values_mut() {
            let needed = needed(channel, keep.max(1));
            let (kept, dropped) = std::mem::take(&mut channel.offers)
                .into_iter()
                .partition(|offer| needed.contains(&offer.manifest.version));
            channel.offers = kept;
            let dropped: Vec<Offer> = dropped;
            pruned.offers.extend(
                dropped
                    .into_iter()
                    .map(|offer| (channel.name.clone(), offer.manifest.version)),
            );
        }
        let named: BTreeSet<String> = channels
            .values()
            .flat_map(|channel| &channel.offers)
            .map(|offer| offer.manifest.version.as_str().to_owned())
            .collect();
        // No reader may find a channel whose files are gone: metadata first.
        if !dry_run && !pruned.offers.is_empty() {
            self.metadata.channels = channels;
            self.write(Scope::All)?;
        }
        for path in files::entries(&self.layout.releases())? {
            let name = files::name(&path);
            if !named.contains(&name) {
                pruned.removed.push(path);
            }
        }
        pruned.removed.extend(self.old_metadata()?);
        if !dry_run {
            for path in &pruned.removed {
                files::remove(path)?;
            }
        }
        Ok(pruned)
    }

    /// Metadata and channels before the last ones: those just before the
    /// current ones are kept for readers who are reading them. Roots are kept
    /// forever.
    fn old_metadata(&self) -> Result<Vec<PathBuf>> {
        let mut old = Vec::new();
        let current = [
            (".targets.json", self.metadata.targets.version.get()),
            (".snapshot.json", self.metadata.snapshot.version.get()),
        ];
        let mut channels: BTreeSet<String> = BTreeSet::new();
        for path in files::entries(&self.layout.metadata())? {
            let name = files::name(&path);
            for (end, version) in current {
                let number: Option<u64> = name.strip_suffix(end).and_then(|n| n.parse().ok());
                match number {
                    Some(number) if number + 1 < version => old.push(path.clone()),
                    Some(_) if end == ".targets.json" => {
                        channels.extend(channels_of(&path)?);
                    }
                    Some(_) | None => {}
                }
            }
        }
        for path in files::entries(&self.layout.channels())? {
            let name = files::name(&path);
            if !channels.contains(&name) {
                old.push(path);
            }
        }
        Ok(old)
    }
}

/// The names of the channels' files that a list of targets names.
fn channels_of(path: &std::path::Path) -> Result<Vec<String>> {
    let file = files::read(path, 1 << 20)?;
    let targets: Signed<Targets> =
        serde_json::from_slice(&file).map_err(|error| Error::metadata(path, error))?;
    Ok(targets
        .signed
        .targets
        .iter()
        .map(|(name, target)| format!("{}.{}", hexadecimal(&target.hashes.sha256), name.raw()))
        .collect())
}

/// The versions of a channel that machines may still take: the newest ones, and
/// from the newest that is not halted back over all barriers.
fn needed(channel: &Channel, keep: usize) -> BTreeSet<Version> {
    let mut offers: Vec<&Offer> = channel.offers.iter().collect();
    offers.sort_by(|a, b| b.manifest.version.cmp(&a.manifest.version));
    let mut needed: BTreeSet<Version> = offers
        .iter()
        .take(keep)
        .map(|offer| offer.manifest.version.clone())
        .collect();
    // Halted ones, and ones that not all machines may take yet, do not replace
    // earlier ones.
    let complete = |offer: &&&Offer| {
        offer.halted.is_none() && offer.waves.last().is_none_or(|wave| wave.percent >= 100)
    };
    let mut starts: Vec<&Offer> = offers.iter().take(keep).copied().collect();
    starts.extend(offers.iter().find(complete));
    for start in starts {
        let mut at = start;
        needed.insert(at.manifest.version.clone());
        while let Some(barrier) = &at.manifest.min_version {
            // The one that lets the oldest machines over the barrier; of several
            // the newest.
            let step = offers
                .iter()
                .filter(|offer| {
                    offer.halted.is_none()
                        && offer.manifest.version >= *barrier
                        && offer.manifest.version < at.manifest.version
                })
                .min_by(|a, b| a.manifest.min_version.cmp(&b.manifest.min_version));
            let Some(step) = step else { break };
            needed.insert(step.manifest.version.clone());
            at = step;
        }
    }
    needed
}
