//! The operator: publishes releases and watches what the machines report.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result};
use release::{Channel, Manifest, Offer, Version};

use crate::scenario::{Moment, Publication, Scenario};

/// The operator, with the repository.
#[derive(Debug)]
pub struct Operator {
    /// What the repository has.
    pub channel: Channel,
    reports: BTreeMap<Version, usize>,
    halting: Option<(Version, Moment)>,
    /// What was halted when.
    pub halted: BTreeMap<Version, Moment>,
}

impl Operator {
    /// With an empty repository.
    pub fn new() -> Self {
        Self {
            channel: Channel::new("stable"),
            reports: BTreeMap::new(),
            halting: None,
            halted: BTreeMap::new(),
        }
    }

    /// Publishes a release.
    ///
    /// # Errors
    /// The publication has an invalid version.
    pub fn publish(&mut self, scenario: &Scenario, publication: &Publication) -> Result<()> {
        self.channel.offers.push(Offer {
            manifest: manifest(scenario, publication)?,
            waves: scenario.waves(publication),
            halted: None,
        });
        Ok(())
    }

    /// A machine reports that it fell back from this release.
    pub fn report(&mut self, version: &Version) {
        *self.reports.entry(version.clone()).or_default() += 1;
    }

    /// Looks at the reports, and halts a release that fails too often.
    pub fn look(&mut self, scenario: &Scenario, now: Moment) {
        if let Some((version, at)) = self.halting.take_if(|(_, at)| *at <= now) {
            for offer in &mut self.channel.offers {
                if offer.manifest.version == version {
                    let count = self.reports.get(&version).copied().unwrap_or(0);
                    offer.halted = Some(format!("{count} machines fell back from it"));
                }
            }
            self.halted.insert(version, at);
        }
        let bad = self.reports.iter().find(|(version, count)| {
            **count >= scenario.halt_after && !self.halted.contains_key(*version)
        });
        if let Some((version, _)) = bad
            && self.halting.is_none()
        {
            self.halting = Some((version.clone(), now + scenario.halt_delay));
        }
    }
}

/// A manifest; what it lists does not matter to the policy.
fn manifest(scenario: &Scenario, publication: &Publication) -> Result<Manifest> {
    let zeros = |bytes: usize| "00".repeat(bytes);
    let mut manifest = serde_json::json!({
        "version": publication.version,
        "root_hash": zeros(32),
        "verity": { "salt": "00", "uuid": zeros(16), "data_blocks": 1 },
        "loader_version": "257",
        "min_version": publication.min_version,
        "published": scenario.time(publication.at).to_string(),
    });
    for name in [
        "root",
        "root_index",
        "tree",
        "uki",
        "uki_index",
        "loader",
        "sbom",
        "disk",
    ] {
        manifest[name] = serde_json::json!({
            "path": format!("releases/{}/{name}", publication.version),
            "length": 4096,
            "sha256": zeros(32),
        });
    }
    serde_json::from_value(manifest)
        .with_context(|| format!("publish release '{}'", publication.version))
}
