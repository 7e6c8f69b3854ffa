//! A repository's folder, opened to be changed.

use std::collections::HashMap;
use std::fs::File;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use jiff::Timestamp as Time;
use nix::fcntl::{Flock, FlockArg};
use release::Channel;
use tough::schema::{RoleKeys, Root};

use crate::error::{Error, Result};
use crate::files;
use crate::keys::{KeyFolder, Role};
use crate::metadata::{Layout, Metadata, SPECIFICATION, Scope, Writer, encode, sign};
use crate::span::Expiry;

/// The settings of a new repository.
#[derive(Clone, Debug, Default)]
pub struct Init {
    /// How many of the root's keys must sign a new root; default: more than
    /// half.
    pub threshold: Option<u64>,
    /// How long metadata is valid.
    pub expiry: Expiry,
}

/// A repository. While it is open, nobody else can change it.
#[derive(Debug)]
pub struct Repository {
    pub(crate) layout: Layout,
    pub(crate) keys: KeyFolder,
    pub(crate) metadata: Metadata,
    pub(crate) expiry: Expiry,
    pub(crate) now: Time,
    _lock: Flock<File>,
}

impl Repository {
    /// Makes a repository whose root names all keys of `keys`, and pins that
    /// root in the keys' folder.
    ///
    /// # Errors
    /// There is a repository already, there are too few keys, or something
    /// cannot be written.
    pub fn init(folder: &Path, keys: KeyFolder, init: &Init) -> Result<Self> {
        Self::init_at(folder, keys, init, Time::now())
    }

    /// [`Repository::init`] at a time other than now.
    ///
    /// # Errors
    /// The same.
    pub fn init_at(folder: &Path, keys: KeyFolder, init: &Init, now: Time) -> Result<Self> {
        let now = whole_seconds(now);
        files::make_folder(folder)?;
        let lock = lock(folder)?;
        let layout = Layout(folder.to_owned());
        if layout.root(1).exists() || layout.timestamp().exists() {
            return Err(Error::Refused(format!(
                "{} is a repository already",
                folder.display()
            )));
        }
        if keys.trust().exists() {
            return Err(Error::key(
                &keys.trust(),
                "these keys have a repository already: make new ones, or move that file away",
            ));
        }
        let root = first_root(&keys, init, now)?;
        let root = sign(&keys, &[&root], &root)?;
        let mut metadata = Metadata::empty(root, now, &init.expiry);
        let file = encode(&metadata.root)?;
        files::put(&layout.root(1), &file)?;
        let root = metadata.root.signed.clone();
        Writer {
            layout: &layout,
            keys: &keys,
            roots: &[&root],
            expiry: &init.expiry,
            now,
        }
        .write(&mut metadata, Scope::All)?;
        files::put(&keys.trust(), &file)?;
        Ok(Self {
            layout,
            keys,
            metadata,
            expiry: init.expiry,
            now,
            _lock: lock,
        })
    }

    /// Opens a repository, waiting until it is not open elsewhere, and verifies its
    /// metadata with the root that is pinned beside the keys.
    ///
    /// # Errors
    /// It is not a repository, or the keys that the root names have not signed
    /// its metadata.
    pub fn open(folder: &Path, keys: KeyFolder) -> Result<Self> {
        Self::open_at(folder, keys, Time::now())
    }

    /// [`Repository::open`] at a time other than now.
    ///
    /// # Errors
    /// The same.
    pub fn open_at(folder: &Path, keys: KeyFolder, now: Time) -> Result<Self> {
        let layout = Layout(folder.to_owned());
        if !layout.timestamp().exists() {
            return Err(Error::Refused(format!(
                "{} is not a repository: `wherry-release init` makes one",
                folder.display()
            )));
        }
        if !keys.trust().exists() {
            return Err(Error::key(
                &keys.trust(),
                "is missing: copy it from where the repository was made",
            ));
        }
        let lock = lock(folder)?;
        let metadata = Metadata::load(&layout, &keys.trust())?;
        Ok(Self {
            layout,
            keys,
            metadata,
            expiry: Expiry::default(),
            now: whole_seconds(now),
            _lock: lock,
        })
    }

    /// How long what is signed from now on is valid.
    pub fn set_expiry(&mut self, expiry: Expiry) {
        self.expiry = expiry;
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.layout.0
    }

    /// The pinned root, which a machine needs.
    pub fn trust(&self) -> PathBuf {
        self.keys.trust()
    }

    /// Its channels.
    pub fn channels(&self) -> impl Iterator<Item = &Channel> {
        self.metadata.channels.values()
    }

    /// A channel.
    ///
    /// # Errors
    /// There is no channel of that name.
    pub fn channel(&self, name: &str) -> Result<&Channel> {
        self.metadata
            .channels
            .get(name)
            .ok_or_else(|| self.no_channel(name))
    }

    pub(crate) fn channel_mut(&mut self, name: &str) -> Result<&mut Channel> {
        if !self.metadata.channels.contains_key(name) {
            return Err(self.no_channel(name));
        }
        Ok(self
            .metadata
            .channels
            .entry(name.to_owned())
            .or_insert_with(|| Channel::new(name)))
    }

    fn no_channel(&self, name: &str) -> Error {
        let names: Vec<&str> = self.metadata.channels.keys().map(String::as_str).collect();
        Error::Refused(format!(
            "there is no channel {name}; there {}",
            match names.as_slice() {
                [] => "are none yet".to_owned(),
                names => format!("are: {}", names.join(", ")),
            }
        ))
    }

    /// Each role's version and when it expires.
    pub fn expiries(&self) -> [(Role, u64, Time); 4] {
        crate::metadata::expiries(&self.metadata)
    }

    /// Signs the timestamp again, which needs only its key.
    ///
    /// # Errors
    /// The key is missing, or something cannot be written.
    pub fn renew_timestamp(&mut self) -> Result<()> {
        self.write(Scope::Timestamp)
    }

    /// Signs everything except the root again.
    ///
    /// # Errors
    /// A key is missing, or something cannot be written.
    pub fn renew(&mut self) -> Result<()> {
        self.write(Scope::All)
    }

    /// Signs and writes what has changed.
    pub(crate) fn write(&mut self, scope: Scope) -> Result<()> {
        for folder in [
            self.layout.metadata(),
            self.layout.channels(),
            self.layout.releases(),
        ] {
            files::remove_unfinished(&folder)?;
        }
        let root = self.metadata.root.signed.clone();
        Writer {
            layout: &self.layout,
            keys: &self.keys,
            roots: &[&root],
            expiry: &self.expiry,
            now: self.now,
        }
        .write(&mut self.metadata, scope)
    }
}

/// People read signed metadata too.
fn whole_seconds(time: Time) -> Time {
    Time::from_second(time.as_second()).unwrap_or(time)
}

/// Waits for whoever is changing the repository.
fn lock(folder: &Path) -> Result<Flock<File>> {
    let path = folder.join(".lock");
    let file = File::create(&path).map_err(Error::file("create", &path))?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, _)) => file,
    };
    eprintln!(
        "waiting for another process that is changing {} …",
        folder.display()
    );
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| Error::file("lock", &path)(error.into()))
}

fn first_root(keys: &KeyFolder, init: &Init, now: Time) -> Result<Root> {
    let mut root = Root {
        spec_version: SPECIFICATION.to_owned(),
        consistent_snapshot: true,
        version: NonZeroU64::MIN,
        expires: init.expiry.root.after(now),
        keys: HashMap::new(),
        roles: HashMap::new(),
        _extra: HashMap::new(),
    };
    for role in Role::ALL {
        let mut keyids = Vec::new();
        for key in keys.of(role) {
            root.keys.insert(key.tuf_id.clone(), key.public.clone());
            keyids.push(key.tuf_id.clone());
        }
        let count = keyids.len() as u64;
        let threshold = match (role, init.threshold) {
            (Role::Root, Some(threshold)) => threshold,
            (Role::Root, None) => count / 2 + 1,
            (Role::Targets | Role::Snapshot | Role::Timestamp, _) => 1,
        };
        if threshold > count {
            return Err(Error::key(
                keys.path(),
                format!("{count} keys for {role}, but {threshold} must sign"),
            ));
        }
        let threshold = NonZeroU64::new(threshold)
            .ok_or_else(|| Error::Refused("a threshold of 0 would sign anything".to_owned()))?;
        root.roles.insert(
            role.tuf(),
            RoleKeys {
                keyids,
                threshold,
                _extra: HashMap::new(),
            },
        );
    }
    Ok(root)
}
