//! TUF metadata: reads it with a pinned root, signs it, and writes it in an
//! order in which a reader always finds a consistent set.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use jiff::Timestamp as Time;
use release::{Channel, MAX_CHANNEL};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tough::TargetName;
use tough::schema::{
    Hashes, Metafile, RoleType, Root, Signature, Signed, Snapshot, Target, Targets, Timestamp,
};

use crate::error::{Error, Result};
use crate::files;
use crate::keys::{KeyFolder, Role, SigningKey, hexadecimal};
use crate::span::Expiry;

/// The TUF version that the metadata follows.
pub(crate) const SPECIFICATION: &str = "1.0.0";

/// None of our metadata comes near it.
pub(crate) const MAX_METADATA: u64 = 1 << 20;

/// The layout of a repository's folder.
#[derive(Clone, Debug)]
pub(crate) struct Layout(pub PathBuf);

impl Layout {
    pub(crate) fn metadata(&self) -> PathBuf {
        self.0.join("metadata")
    }

    pub(crate) fn channels(&self) -> PathBuf {
        self.0.join("targets/channels")
    }

    pub(crate) fn releases(&self) -> PathBuf {
        self.0.join("releases")
    }

    pub(crate) fn root(&self, version: u64) -> PathBuf {
        self.metadata().join(format!("{version}.root.json"))
    }

    pub(crate) fn targets(&self, version: u64) -> PathBuf {
        self.metadata().join(format!("{version}.targets.json"))
    }

    pub(crate) fn snapshot(&self, version: u64) -> PathBuf {
        self.metadata().join(format!("{version}.snapshot.json"))
    }

    pub(crate) fn timestamp(&self) -> PathBuf {
        self.metadata().join("timestamp.json")
    }

    pub(crate) fn channel(&self, sha256: &str, name: &str) -> PathBuf {
        self.channels().join(format!("{sha256}.{name}.json"))
    }
}

/// All current metadata, verified, and the channels it names.
#[derive(Clone, Debug)]
pub(crate) struct Metadata {
    pub root: Signed<Root>,
    pub targets: Targets,
    pub snapshot: Snapshot,
    pub timestamp: Timestamp,
    pub channels: BTreeMap<String, Channel>,
}

impl Metadata {
    /// Reads a repository, starting from the pinned root. Expired metadata is
    /// accepted: it is to be signed again.
    pub(crate) fn load(layout: &Layout, trust: &Path) -> Result<Self> {
        let root = load_root(layout, trust)?;
        let path = layout.timestamp();
        let timestamp: Timestamp = signed(&root.signed, &path, None)?;
        let meta = meta(&path, &timestamp.meta, "snapshot.json")?;
        let path = layout.snapshot(meta.version.get());
        let snapshot: Snapshot = signed(&root.signed, &path, Some(meta))?;
        same_version(&path, snapshot.version, meta)?;
        let meta = self::meta(&path, &snapshot.meta, "targets.json")?;
        let path = layout.targets(meta.version.get());
        let targets: Targets = signed(&root.signed, &path, Some(meta))?;
        same_version(&path, targets.version, meta)?;
        let mut channels = BTreeMap::new();
        for (name, target) in &targets.targets {
            let Some(name) = name.raw().strip_suffix(".json") else {
                return Err(Error::metadata(
                    &path,
                    format!("its target {} is not a channel", name.raw()),
                ));
            };
            channels.insert(name.to_owned(), load_channel(layout, name, target)?);
        }
        Ok(Self {
            root,
            targets,
            snapshot,
            timestamp,
            channels,
        })
    }

    /// The first metadata of a repository: no channels.
    pub(crate) fn empty(root: Signed<Root>, now: Time, expiry: &Expiry) -> Self {
        let version = NonZeroU64::MIN;
        let specification = || SPECIFICATION.to_owned();
        Self {
            root,
            targets: Targets {
                // Delegations are not used.
                delegations: None,
                ..Targets::new(specification(), version, expiry.targets.after(now))
            },
            snapshot: Snapshot::new(specification(), version, expiry.snapshot.after(now)),
            timestamp: Timestamp::new(specification(), version, expiry.timestamp.after(now)),
            channels: BTreeMap::new(),
        }
    }
}

/// The newest root, reached through every root since the pinned one.
pub(crate) fn load_root(layout: &Layout, trust: &Path) -> Result<Signed<Root>> {
    let mut root: Signed<Root> = json(trust, &files::read(trust, MAX_METADATA)?)?;
    root.signed
        .verify_role(&root)
        .map_err(|error| Error::metadata(trust, error))?;
    loop {
        let version = root.signed.version.get() + 1;
        let path = layout.root(version);
        if !path.exists() {
            return Ok(root);
        }
        let next: Signed<Root> = json(&path, &files::read(&path, MAX_METADATA)?)?;
        root.signed
            .verify_role(&next)
            .and_then(|()| next.signed.verify_role(&next))
            .map_err(|error| Error::metadata(&path, error))?;
        if next.signed.version.get() != version {
            return Err(Error::metadata(
                &path,
                format!("says that it is version {}", next.signed.version),
            ));
        }
        root = next;
    }
}

fn load_channel(layout: &Layout, name: &str, target: &Target) -> Result<Channel> {
    let sum = hexadecimal(&target.hashes.sha256);
    let path = layout.channel(&sum, name);
    let file = files::read(&path, MAX_CHANNEL)?;
    if file.len() as u64 != target.length || files::sha256(&file).to_string() != sum {
        return Err(Error::metadata(&path, "is not the file that was signed"));
    }
    let channel = Channel::parse(&file).map_err(|error| Error::metadata(&path, error))?;
    if channel.name != name {
        return Err(Error::metadata(
            &path,
            format!("is the channel {}", channel.name),
        ));
    }
    Ok(channel)
}

fn meta<'a>(path: &Path, files: &'a HashMap<String, Metafile>, name: &str) -> Result<&'a Metafile> {
    files
        .get(name)
        .ok_or_else(|| Error::metadata(path, format!("does not name {name}")))
}

fn same_version(path: &Path, version: NonZeroU64, meta: &Metafile) -> Result<()> {
    if version == meta.version {
        Ok(())
    } else {
        Err(Error::metadata(path, format!("says it is {version}")))
    }
}

/// Reads a role's file and verifies its signatures, its length and its hash.
fn signed<T>(root: &Root, path: &Path, meta: Option<&Metafile>) -> Result<T>
where
    T: tough::schema::Role + DeserializeOwned,
{
    let file = files::read(path, MAX_METADATA)?;
    if let Some(meta) = meta {
        let length = meta.length.is_none_or(|length| length == file.len() as u64);
        let sum = meta
            .hashes
            .as_ref()
            .is_none_or(|hashes| hexadecimal(&hashes.sha256) == files::sha256(&file).to_string());
        if !length || !sum {
            return Err(Error::metadata(path, "is not the file that was signed"));
        }
    }
    let role: Signed<T> = json(path, &file)?;
    root.verify_role(&role)
        .map_err(|error| Error::metadata(path, error))?;
    Ok(role.signed)
}

pub(crate) fn json<T: DeserializeOwned>(path: &Path, file: &[u8]) -> Result<T> {
    serde_json::from_slice(file).map_err(|error| Error::metadata(path, error))
}

/// Signs with all available keys that one of `roots` has for the role; the
/// signatures must satisfy each of the roots. (Two roots: while keys rotate.)
pub(crate) fn sign<T>(keys: &KeyFolder, roots: &[&Root], role: &T) -> Result<Signed<T>>
where
    T: tough::schema::Role + Clone,
{
    let signed = Signed {
        signatures: signatures(keys, roots, role)?,
        signed: role.clone(),
    };
    for root in roots {
        enough(root, &signed).map_err(|problem| Error::key(keys.path(), problem))?;
    }
    Ok(signed)
}

/// The signatures of all available keys that one of `roots` has for the role.
pub(crate) fn signatures<T>(keys: &KeyFolder, roots: &[&Root], role: &T) -> Result<Vec<Signature>>
where
    T: tough::schema::Role,
{
    let message = role
        .canonical_form()
        .map_err(|error| Error::metadata(Path::new(&role.filename(true)), error))?;
    let may = |key: &&SigningKey| {
        roots.iter().any(|root| {
            let named = root.roles.get(&T::TYPE);
            named.is_some_and(|role| role.keyids.contains(&key.tuf_id))
        })
    };
    Ok(keys
        .keys()
        .iter()
        .filter(may)
        .map(|key| Signature {
            keyid: key.tuf_id.clone(),
            sig: key.sign(&message).into(),
        })
        .collect())
}

/// Whether a role's signatures satisfy a root; if not, which keys it requires.
pub(crate) fn enough<T>(root: &Root, signed: &Signed<T>) -> std::result::Result<(), String>
where
    T: tough::schema::Role,
{
    root.verify_role(signed).map_err(|error| {
        let wanted = root.roles.get(&T::TYPE);
        let ids: Vec<String> = wanted
            .iter()
            .flat_map(|role| &role.keyids)
            .map(|id| hexadecimal(id)[..16].to_owned())
            .collect();
        format!(
            "the available keys cannot sign {} ({error}); root {} requires {} of: {}",
            T::TYPE,
            root.version,
            wanted.map_or(0, |role| role.threshold.get()),
            ids.join(", ")
        )
    })
}

/// A signed role as its file has it, keys in order, so that the same content is
/// the same file.
pub(crate) fn encode<T: Serialize>(role: &Signed<T>) -> Result<Vec<u8>> {
    let wrong = |error| Error::metadata(Path::new("metadata"), error);
    let value = serde_json::to_value(role).map_err(wrong)?;
    let mut file = serde_json::to_vec_pretty(&value).map_err(wrong)?;
    file.push(b'\n');
    Ok(file)
}

/// What to sign again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Only the timestamp.
    Timestamp,
    /// Everything except the root.
    All,
}

/// Signs and writes; readers see nothing before the timestamp, which is written
/// last. `roots` has the one in force first.
pub(crate) struct Writer<'a> {
    pub layout: &'a Layout,
    pub keys: &'a KeyFolder,
    pub roots: &'a [&'a Root],
    pub expiry: &'a Expiry,
    pub now: Time,
}

impl Writer<'_> {
    pub(crate) fn write(&self, metadata: &mut Metadata, scope: Scope) -> Result<()> {
        let timestamp = self.prepare(metadata, scope)?;
        files::put(&self.layout.timestamp(), &timestamp)
    }

    /// Writes everything except the timestamp, which is returned.
    pub(crate) fn prepare(&self, metadata: &mut Metadata, scope: Scope) -> Result<Vec<u8>> {
        if scope == Scope::All {
            // A missing key is reported before anything is written.
            self.check_keys(metadata)?;
            self.write_channels(metadata)?;
            let targets = &mut metadata.targets;
            targets.version = self.next(RoleType::Targets, targets.version)?;
            targets.expires = self.expiry.targets.after(self.now);
            let file = encode(&sign(self.keys, self.roots, targets)?)?;
            files::put(&self.layout.targets(targets.version.get()), &file)?;
            let snapshot = &mut metadata.snapshot;
            snapshot.version = self.next(RoleType::Snapshot, snapshot.version)?;
            snapshot.expires = self.expiry.snapshot.after(self.now);
            snapshot.meta =
                HashMap::from([("targets.json".to_owned(), described(&file, targets.version))]);
            let file = encode(&sign(self.keys, self.roots, snapshot)?)?;
            files::put(&self.layout.snapshot(snapshot.version.get()), &file)?;
            metadata.timestamp.meta = HashMap::from([(
                "snapshot.json".to_owned(),
                described(&file, snapshot.version),
            )]);
        }
        let timestamp = &mut metadata.timestamp;
        if self.layout.timestamp().exists() {
            timestamp.version = following(timestamp.version);
        }
        timestamp.expires = self.expiry.timestamp.after(self.now);
        encode(&sign(self.keys, self.roots, timestamp)?)
    }

    fn check_keys(&self, metadata: &Metadata) -> Result<()> {
        sign(self.keys, self.roots, &metadata.targets)?;
        sign(self.keys, self.roots, &metadata.snapshot)?;
        sign(self.keys, self.roots, &metadata.timestamp)?;
        Ok(())
    }

    fn write_channels(&self, metadata: &mut Metadata) -> Result<()> {
        metadata.targets.targets.clear();
        for (name, channel) in &metadata.channels {
            let file = channel.encode().map_err(|source| Error::Channel {
                channel: name.clone(),
                source,
            })?;
            let sum = files::sha256(&file);
            let path = self.layout.channel(&sum.to_string(), name);
            if !path.exists() {
                files::put(&path, &file)?;
            }
            let target = TargetName::new(format!("{name}.json"))
                .map_err(|error| Error::Refused(error.to_string()))?;
            metadata.targets.targets.insert(
                target,
                Target {
                    length: file.len() as u64,
                    hashes: hashes(&file),
                    custom: HashMap::new(),
                    _extra: HashMap::new(),
                },
            );
        }
        Ok(())
    }

    /// A version that no file has yet, not even an interrupted run's: a cache
    /// may have seen that one.
    fn next(&self, role: RoleType, current: NonZeroU64) -> Result<NonZeroU64> {
        let end = format!(".{role}.json");
        let mut newest: Option<NonZeroU64> = None;
        for path in files::entries(&self.layout.metadata())? {
            let name = files::name(&path);
            let version = name.strip_suffix(&end).and_then(|text| text.parse().ok());
            newest = newest.max(version);
        }
        Ok(newest.map_or(current, |newest| following(newest.max(current))))
    }
}

fn following(version: NonZeroU64) -> NonZeroU64 {
    version.saturating_add(1)
}

fn hashes(file: &[u8]) -> Hashes {
    Hashes {
        sha256: files::sha256(file).0.to_vec().into(),
        _extra: HashMap::new(),
    }
}

fn described(file: &[u8], version: NonZeroU64) -> Metafile {
    Metafile {
        length: Some(file.len() as u64),
        hashes: Some(hashes(file)),
        version,
        _extra: HashMap::new(),
    }
}

/// Which of a root's roles expires when.
pub(crate) fn expiries(metadata: &Metadata) -> [(Role, u64, Time); 4] {
    [
        (
            Role::Root,
            metadata.root.signed.version.get(),
            metadata.root.signed.expires,
        ),
        (
            Role::Targets,
            metadata.targets.version.get(),
            metadata.targets.expires,
        ),
        (
            Role::Snapshot,
            metadata.snapshot.version.get(),
            metadata.snapshot.expires,
        ),
        (
            Role::Timestamp,
            metadata.timestamp.version.get(),
            metadata.timestamp.expires,
        ),
    ]
}
