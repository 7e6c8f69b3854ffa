//! Changes to a channel: publish, promote, halt.

use std::str::FromStr;

use jiff::Timestamp as Time;
use release::{Channel, Manifest, Offer, Version, Wave};
use serde::Serialize;

use crate::artifacts::ReleaseFolder;
use crate::error::{Error, Result};
use crate::files;
use crate::metadata::Scope;
use crate::progress::Progress;
use crate::repository::Repository;
use crate::span::Lifetime;

/// An operator is warned this many days before the root expires: its keys are
/// kept offline and take time to fetch.
const ROOT_WARNING: i32 = 30;

/// A share of the fleet, and when it may take the release: `10%@+6h` (after
/// publication) or `10%@2026-12-01T02:00:00Z`.
#[derive(Clone, Copy, Debug)]
pub struct WaveRule {
    percent: u8,
    start: Start,
}

#[derive(Clone, Copy, Debug)]
enum Start {
    After(Lifetime),
    At(Time),
}

impl FromStr for WaveRule {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let rule = || {
            let (percent, start) = text.split_once("%@")?;
            Some((percent.trim().parse().ok()?, start.trim()))
        };
        let Some((percent, start)) = rule() else {
            return Err(
                "a wave is PERCENT%@+DURATION or PERCENT%@TIME, such as 10%@+6h".to_owned(),
            );
        };
        let start = match start.strip_prefix('+') {
            Some(stretch) => Start::After(stretch.parse()?),
            None => Start::At(
                start
                    .parse()
                    .map_err(|error| format!("not a time (RFC 3339): {error}"))?,
            ),
        };
        Ok(Self { percent, start })
    }
}

impl WaveRule {
    fn wave(&self, published: Time) -> Wave {
        let start = match self.start {
            Start::After(stretch) => stretch.after(published),
            Start::At(time) => time,
        };
        Wave {
            percent: self.percent,
            start: start.to_string(),
        }
    }
}

/// How a release is offered.
#[derive(Clone, Debug, Default)]
pub struct Publish {
    /// The channel; created if it does not exist.
    pub channel: String,
    /// The oldest version from which a machine can be updated to this one.
    pub min_version: Option<Version>,
    /// Who may take it when; empty: everyone at once.
    pub waves: Vec<WaveRule>,
    /// What is new, for people.
    pub notes: String,
    /// Other addresses of the repository; `None`: unchanged.
    pub mirrors: Option<Vec<String>>,
}

/// What was done.
#[derive(Clone, Debug, Serialize)]
pub struct Published {
    /// The channel.
    pub channel: String,
    /// The release.
    pub version: Version,
    /// Its root hash.
    pub root_hash: release::RootHash,
    /// Whether anything had to be done.
    pub changed: bool,
    /// Warnings about something that is not wrong but may be unintended.
    pub warnings: Vec<String>,
}

impl Repository {
    /// Publishes a release on a channel. Publishing the same again changes
    /// nothing; different waves, notes, mirrors or `min_version` replace the
    /// old ones.
    ///
    /// # Errors
    /// The version is published with other files, machines would not accept the
    /// channel, a key is missing, or something cannot be read or written.
    /// Readers then see the previous state.
    pub fn publish(
        &mut self,
        release: &ReleaseFolder,
        publish: &Publish,
        progress: &dyn Progress,
    ) -> Result<Published> {
        if !Channel::is_name(&publish.channel) {
            return Err(Error::Refused(format!(
                "'{}' is not a channel name: lower-case letters, digits, '.', '-'",
                publish.channel
            )));
        }
        self.forget_unnamed(release.version())?;
        let stored = release.store(&self.layout.releases(), progress)?;
        let manifest = Manifest {
            version: release.version().clone(),
            root_hash: release.root_hash(),
            verity: release.checked.verity.clone(),
            root: stored.root,
            root_index: stored.root_index,
            tree: stored.tree,
            uki: stored.uki,
            uki_index: stored.uki_index,
            loader: stored.loader,
            loader_version: release.loader_version.clone(),
            min_version: publish.min_version.clone(),
            sbom: stored.sbom,
            disk: stored.disk,
            notes: publish.notes.clone(),
            published: self.now.to_string(),
        };
        self.offer(
            &publish.channel,
            manifest,
            &publish.waves,
            publish.mirrors.clone(),
        )
    }

    /// Offers a release from one channel in another.
    ///
    /// # Errors
    /// The first channel does not offer it, or it is halted there; otherwise as
    /// with [`Repository::publish`].
    pub fn promote(
        &mut self,
        from: &str,
        to: &str,
        version: &Version,
        waves: &[WaveRule],
    ) -> Result<Published> {
        let offer = find(self.channel(from)?, version)?;
        if let Some(why) = &offer.halted {
            return Err(Error::Refused(format!(
                "{version} is halted on {from}: {why}"
            )));
        }
        let mut manifest = offer.manifest.clone();
        manifest.published = self.now.to_string();
        self.offer(to, manifest, waves, None)
    }

    /// Stops an offer: no machine takes it any more.
    ///
    /// # Errors
    /// It is not offered, a key is missing, or something cannot be written.
    pub fn halt(&mut self, channel: &str, version: &Version, because: &str) -> Result<Published> {
        self.set_halted(channel, version, Some(because.to_owned()))
    }

    /// Lets machines take a halted offer again.
    ///
    /// # Errors
    /// It is not offered, a key is missing, or something cannot be written.
    pub fn unhalt(&mut self, channel: &str, version: &Version) -> Result<Published> {
        self.set_halted(channel, version, None)
    }

    fn set_halted(
        &mut self,
        channel: &str,
        version: &Version,
        halted: Option<String>,
    ) -> Result<Published> {
        let offers = &mut self.channel_mut(channel)?.offers;
        let Some(offer) = offers
            .iter_mut()
            .find(|offer| offer.manifest.version == *version)
        else {
            return Err(not_offered(self.channel(channel)?, version));
        };
        let done = Published {
            channel: channel.to_owned(),
            version: offer.manifest.version.clone(),
            root_hash: offer.manifest.root_hash,
            changed: offer.halted != halted,
            warnings: Vec::new(),
        };
        offer.halted = halted;
        if done.changed {
            self.write(Scope::All)?;
        }
        Ok(done)
    }

    /// Files that no channel names were left by an interrupted run: a new build
    /// may replace them. If a version with another spelling sorts equal, chance
    /// would decide which one a machine boots.
    fn forget_unnamed(&self, version: &Version) -> Result<()> {
        let same: Vec<&Version> = self
            .channels()
            .flat_map(|channel| &channel.offers)
            .map(|offer| &offer.manifest.version)
            .filter(|known| *known == version)
            .collect();
        let other = same.iter().find(|known| known.as_str() != version.as_str());
        if let Some(other) = other {
            return Err(Error::Refused(format!(
                "version {version} is the same as {other}, which is published already"
            )));
        }
        let folder = self.layout.releases().join(version.as_str());
        if same.is_empty() && folder.exists() {
            files::remove(&folder)?;
        }
        Ok(())
    }

    fn offer(
        &mut self,
        name: &str,
        mut manifest: Manifest,
        waves: &[WaveRule],
        mirrors: Option<Vec<String>>,
    ) -> Result<Published> {
        let mut channel = match self.metadata.channels.get(name) {
            Some(channel) => channel.clone(),
            None if Channel::is_name(name) => Channel::new(name),
            None => {
                return Err(Error::Refused(format!("'{name}' is not a channel name")));
            }
        };
        let before = channel.clone();
        let there = channel
            .offers
            .iter()
            .position(|offer| offer.manifest.version == manifest.version);
        // The first time it was published counts, for the waves too.
        let known = there.map(|at| channel.offers.remove(at));
        if let Some(known) = &known {
            manifest.published = known.manifest.published.clone();
        }
        let published = manifest.published.parse().unwrap_or(self.now);
        let offer = Offer {
            waves: waves.iter().map(|wave| wave.wave(published)).collect(),
            halted: known.and_then(|known| known.halted),
            manifest,
        };
        let mut warnings = Vec::new();
        if offer.waves.last().is_some_and(|wave| wave.percent < 100) {
            warnings.push(format!(
                "the last wave ends at {}%: the remaining machines do not get it",
                offer.waves.last().map_or(0, |wave| wave.percent)
            ));
        }
        if let Some(why) = &offer.halted {
            warnings.push(format!("it stays halted: {why}"));
        }
        let root = self.metadata.root.signed.expires;
        if root < Lifetime::days(ROOT_WARNING).after(self.now) {
            warnings.push(format!(
                "the root expires at {root}, and machines take nothing then: \
                 `wherry-release keys renew`"
            ));
        }
        if let Some(mirrors) = mirrors {
            channel.mirrors = mirrors;
        }
        let done = |changed| Published {
            channel: name.to_owned(),
            version: offer.manifest.version.clone(),
            root_hash: offer.manifest.root_hash,
            changed,
            warnings,
        };
        channel.offers.push(offer.clone());
        // The newest first, for people who read it.
        channel
            .offers
            .sort_by(|a, b| b.manifest.version.cmp(&a.manifest.version));
        if channel == before {
            return Ok(done(false));
        }
        channel.encode().map_err(|source| Error::Channel {
            channel: name.to_owned(),
            source,
        })?;
        self.metadata.channels.insert(name.to_owned(), channel);
        self.write(Scope::All)?;
        Ok(done(true))
    }
}

fn find<'a>(channel: &'a Channel, version: &Version) -> Result<&'a Offer> {
    channel
        .offers
        .iter()
        .find(|offer| offer.manifest.version == *version)
        .ok_or_else(|| not_offered(channel, version))
}

fn not_offered(channel: &Channel, version: &Version) -> Error {
    let versions: Vec<&str> = channel
        .offers
        .iter()
        .map(|offer| offer.manifest.version.as_str())
        .collect();
    Error::Refused(format!(
        "{version} is not offered on {}; offered are: {}",
        channel.name,
        versions.join(", ")
    ))
}
