//! Signing keys: Ed25519, one file a key.
//!
//! ```text
//! KEYS/root/root-<id>.pem       the root's keys, to be kept apart and offline
//! KEYS/online/<role>-<id>.pem   targets, snapshot, timestamp
//! KEYS/retired/                 keys that a rotation replaced
//! KEYS/root.json                the root that is trusted: public, for machines too
//! ```
//!
//! A key's file is PKCS #8 in PEM and only its owner can read it; `<id>` is the
//! begin of TUF's key id.

use std::collections::HashMap;
use std::fmt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use serde::Serialize;
use tough::schema::RoleType;
use tough::schema::decoded::{Decoded, Hex};
use tough::schema::key::{Ed25519Key, Ed25519Scheme, Key};

use crate::error::{Error, Result};
use crate::files::{self, NewFolder};

const CHECKSUMS: &str = "SHA256SUMS";

/// What a key may sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Which keys sign what.
    Root,
    /// The channels.
    Targets,
    /// Which metadata belongs together.
    Snapshot,
    /// That this is the newest.
    Timestamp,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Root, Self::Targets, Self::Snapshot, Self::Timestamp];

    /// TUF's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets => "targets",
            Self::Snapshot => "snapshot",
            Self::Timestamp => "timestamp",
        }
    }

    pub(crate) fn tuf(self) -> RoleType {
        match self {
            Self::Root => RoleType::Root,
            Self::Targets => RoleType::Targets,
            Self::Snapshot => RoleType::Snapshot,
            Self::Timestamp => RoleType::Timestamp,
        }
    }

    /// The folder of its keys.
    fn folder(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Targets | Self::Snapshot | Self::Timestamp => "online",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|role| role.name() == text)
            .ok_or_else(|| "root, targets, snapshot or timestamp".to_owned())
    }
}

/// A key that can sign.
pub struct SigningKey {
    /// What it is for.
    pub role: Role,
    /// TUF's key id, hexadecimal.
    pub id: String,
    /// Its file.
    pub path: PathBuf,
    pub(crate) tuf_id: Decoded<Hex>,
    pub(crate) public: Key,
    pair: Ed25519KeyPair,
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} key {}", self.role, self.id)
    }
}

impl SigningKey {
    fn load(role: Role, path: &Path) -> Result<Self> {
        let bytes = files::read(path, 16 << 10)?;
        let mode = std::fs::metadata(path)
            .map_err(Error::file("read", path))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(Error::key(
                path,
                format!(
                    "users other than its owner can read this key: run chmod 600 {}",
                    path.display()
                ),
            ));
        }
        let pem = pem::parse(&bytes)
            .map_err(|error| Error::key(path, format!("not a private key in PEM: {error}")))?;
        Self::from_pkcs8(role, path, pem.contents())
    }

    fn from_pkcs8(role: Role, path: &Path, pkcs8: &[u8]) -> Result<Self> {
        let pair = Ed25519KeyPair::from_pkcs8(pkcs8)
            .map_err(|error| Error::key(path, format!("no Ed25519 key: {error}")))?;
        let public = Key::Ed25519 {
            keyval: Ed25519Key {
                public: pair.public_key().as_ref().to_vec().into(),
                _extra: HashMap::new(),
            },
            scheme: Ed25519Scheme::Ed25519,
            _extra: HashMap::new(),
        };
        let tuf_id = public
            .key_id()
            .map_err(|error| Error::key(path, format!("cannot derive its id: {error}")))?;
        Ok(Self {
            role,
            id: hexadecimal(&tuf_id),
            path: path.to_owned(),
            tuf_id,
            public,
            pair,
        })
    }

    pub(crate) fn sign(&self, message: &[u8]) -> Vec<u8> {
        self.pair.sign(message).as_ref().to_vec()
    }
}

pub(crate) fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The available keys.
#[derive(Debug)]
pub struct KeyFolder {
    path: PathBuf,
    keys: Vec<SigningKey>,
}

impl KeyFolder {
    /// Makes a folder with new keys: `root_keys` for the root, one for each
    /// other role.
    ///
    /// # Errors
    /// There are keys already, or it cannot be written.
    pub fn make(path: &Path, root_keys: usize) -> Result<Self> {
        if root_keys == 0 {
            return Err(Error::Refused("the root needs at least one key".to_owned()));
        }
        if !files::entries(path)?.is_empty() {
            return Err(Error::key(
                path,
                "the folder is not empty, and keys are never overwritten: name a new one",
            ));
        }
        let mut folder = Self {
            path: path.to_owned(),
            keys: Vec::new(),
        };
        for _ in 0..root_keys {
            folder.add(Role::Root)?;
        }
        for role in [Role::Targets, Role::Snapshot, Role::Timestamp] {
            folder.add(role)?;
        }
        Ok(folder)
    }

    /// Reads the keys of a folder.
    ///
    /// # Errors
    /// There are none, one is unreadable, or others may read it.
    pub fn open(path: &Path) -> Result<Self> {
        let mut folder = Self {
            path: path.to_owned(),
            keys: Vec::new(),
        };
        folder.read(path)?;
        if folder.keys.is_empty() {
            return Err(Error::key(
                path,
                "contains no keys: `wherry-release keys make` makes some",
            ));
        }
        Ok(folder)
    }

    /// Adds the keys of another folder, such as the root's on a stick.
    ///
    /// # Errors
    /// One is unreadable, or others may read it.
    pub fn include(&mut self, path: &Path) -> Result<()> {
        let before = self.keys.len();
        self.read(path)?;
        if self.keys.len() == before {
            return Err(Error::key(path, "contains no keys"));
        }
        Ok(())
    }

    /// Keys may be in `root/` and `online/`, or directly in the folder.
    fn read(&mut self, path: &Path) -> Result<()> {
        for folder in [path.join("root"), path.join("online"), path.to_owned()] {
            for file in files::entries(&folder)? {
                let role = file.file_name().and_then(|name| {
                    let name = name.to_str()?.strip_suffix(".pem")?;
                    name.split_once('-')?.0.parse().ok()
                });
                if let Some(role) = role {
                    let key = SigningKey::load(role, &file)?;
                    if self.keys.iter().all(|known| known.id != key.id) {
                        self.keys.push(key);
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a new key.
    pub(crate) fn add(&mut self, role: Role) -> Result<&SigningKey> {
        let folder = self.path.join(role.folder());
        let pkcs8 = Ed25519KeyPair::generate_pkcs8v1(&SystemRandom::new())
            .map_err(|_| Error::key(&folder, "the system returned no random bytes for a key"))?;
        let mut key = SigningKey::from_pkcs8(role, &folder, pkcs8.as_ref())?;
        key.path = folder.join(format!("{role}-{}.pem", &key.id[..16]));
        let text = pem::encode_config(
            &pem::Pem::new("PRIVATE KEY", pkcs8.as_ref()),
            pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
        );
        files::put_secret(&key.path, text.as_bytes())?;
        let private = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(&folder, private).map_err(Error::file("protect", &folder))?;
        self.keys.push(key);
        // The key just pushed.
        Ok(&self.keys[self.keys.len() - 1])
    }

    /// Moves a key that a rotation replaced away, if it is in this folder.
    pub(crate) fn retire(&mut self, id: &str) -> Result<()> {
        let Some(at) = self.keys.iter().position(|key| key.id == id) else {
            return Ok(());
        };
        let key = self.keys.remove(at);
        // Keys elsewhere stay there: machines that have not seen the new root
        // yet still accept that key.
        if !key.path.starts_with(&self.path) {
            return Ok(());
        }
        let folder = self.path.join("retired");
        files::make_folder(&folder)?;
        let target = folder.join(key.path.file_name().unwrap_or_default());
        // It may be on another file system.
        let bytes = files::read(&key.path, 16 << 10)?;
        files::put_secret(&target, &bytes)?;
        files::remove(&key.path)
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The pinned root.
    pub fn trust(&self) -> PathBuf {
        self.path.join("root.json")
    }

    /// All keys.
    pub fn keys(&self) -> &[SigningKey] {
        &self.keys
    }

    /// The keys of a role.
    pub fn of(&self, role: Role) -> impl Iterator<Item = &SigningKey> {
        self.keys.iter().filter(move |key| key.role == role)
    }
}

/// Copies a folder of keys, with the SHA-256 of each file. The copy is compared
/// with the original.
///
/// # Errors
/// The archive exists already; something cannot be read or written.
pub fn backup(keys: &Path, archive: &Path) -> Result<Vec<PathBuf>> {
    KeyFolder::open(keys)?;
    let mut copied = Vec::new();
    let mut sums = String::new();
    let folder = absent(archive)?;
    for path in list(keys)? {
        let bytes = files::read(&keys.join(&path), 1 << 20)?;
        let target = folder.path().join(&path);
        files::put_secret(&target, &bytes)?;
        if files::read(&target, 1 << 20)? != bytes {
            return Err(Error::key(
                &target,
                "reads back differently from what was written",
            ));
        }
        sums.push_str(&format!("{}  {}\n", files::sha256(&bytes), path.display()));
        copied.push(path);
    }
    files::put_secret(&folder.path().join(CHECKSUMS), sums.as_bytes())?;
    folder.finish()?;
    Ok(copied)
}

/// Makes a folder of keys from an archive whose sums are right.
///
/// # Errors
/// The folder exists already; the archive is damaged or incomplete.
pub fn restore(archive: &Path, keys: &Path) -> Result<Vec<PathBuf>> {
    let sums_file = archive.join(CHECKSUMS);
    let sums = files::read(&sums_file, 1 << 20)?;
    let mut restored = Vec::new();
    let folder = absent(keys)?;
    for line in String::from_utf8_lossy(&sums).lines() {
        let Some((sum, path)) = line.split_once("  ") else {
            return Err(Error::key(
                &sums_file,
                format!("not a line of sums: {line}"),
            ));
        };
        let path = PathBuf::from(path);
        let inside = path
            .components()
            .all(|part| matches!(part, std::path::Component::Normal(_)));
        if !inside {
            return Err(Error::key(
                &sums_file,
                format!("leads out of the archive: {line}"),
            ));
        }
        let source = archive.join(&path);
        let bytes = files::read(&source, 1 << 20)?;
        if files::sha256(&bytes).to_string() != sum {
            return Err(Error::key(&source, "damaged: its SHA-256 differs"));
        }
        files::put_secret(&folder.path().join(&path), &bytes)?;
        restored.push(path);
    }
    KeyFolder::open(folder.path())?;
    folder.finish()?;
    Ok(restored)
}

fn absent(path: &Path) -> Result<NewFolder> {
    if path.symlink_metadata().is_ok() {
        return Err(Error::key(
            path,
            "exists already, and keys are never overwritten: name a new folder",
        ));
    }
    files::make_folder(files::parent(path))?;
    let folder = NewFolder::begin(path)?;
    let private = std::fs::Permissions::from_mode(0o700);
    std::fs::set_permissions(folder.path(), private).map_err(Error::file("protect", path))?;
    Ok(folder)
}

/// The files of a folder of keys, relative to it.
fn list(keys: &Path) -> Result<Vec<PathBuf>> {
    let mut list = Vec::new();
    for folder in ["root", "online", "retired", ""] {
        for path in files::entries(&keys.join(folder))? {
            if path.is_file()
                && path
                    .extension()
                    .is_some_and(|end| end == "pem" || end == "json")
            {
                list.push(path.strip_prefix(keys).unwrap_or(&path).to_owned());
            }
        }
    }
    Ok(list)
}
