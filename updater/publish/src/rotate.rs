//! New keys for a repository, and a new root with the same keys.
//!
//! A new root is signed by a threshold of the previous one's keys and of its
//! own, so that machines can follow from the one they trust to the newest. The
//! metadata is signed once with both the previous and the new online key, if
//! both are available: so it is also valid for a reader who has not seen the
//! new root yet.
//!
//! If the root's keys are not in one place, the new root is passed around as a
//! file, a [draft](Repository::draft_rotation), that each keeper
//! [signs](sign_draft).

use std::path::Path;

use jiff::Timestamp as Time;
use serde::Serialize;
use tough::schema::{Root, Signed};

use crate::error::{Error, Result};
use crate::files;
use crate::keys::{KeyFolder, Role, hexadecimal};
use crate::metadata::{MAX_METADATA, Scope, Writer, encode, enough, json, sign, signatures};
use crate::repository::Repository;

/// The result of a rotation.
#[derive(Clone, Debug, Serialize)]
pub struct Rotation {
    /// The new root's version.
    pub root_version: u64,
    /// When it expires.
    pub expires: Time,
    /// The keys that are no longer accepted.
    pub removed: Vec<String>,
    /// The new keys.
    pub added: Vec<String>,
    /// The root's keys that have signed it so far.
    pub signed_by: Vec<String>,
}

impl Repository {
    /// Replaces a key with a new one. `old` is the start of the old one's id,
    /// and can be omitted if the role has one key. As many of the root's keys
    /// must be available as its threshold requires.
    ///
    /// # Errors
    /// Keys are missing, or something cannot be written; nothing has changed
    /// for readers then.
    pub fn rotate(&mut self, role: Role, old: Option<&str>) -> Result<Rotation> {
        // Signing with the old root's keys is tried before a new key is made.
        let current = self.metadata.root.signed.clone();
        sign(&self.keys, &[&current], &current)?;
        let next = self.replaced(role, old)?;
        let signed = sign(&self.keys, &[&current, &next], &next)?;
        self.publish_root(signed)
    }

    /// Signs the root again with the same keys, before it expires.
    ///
    /// # Errors
    /// Keys are missing, or something cannot be written.
    pub fn renew_root(&mut self) -> Result<Rotation> {
        let current = self.metadata.root.signed.clone();
        let next = self.following_root();
        let signed = sign(&self.keys, &[&current, &next], &next)?;
        self.publish_root(signed)
    }

    /// Starts what [`Repository::rotate`] does when the root's keys are not in
    /// one place: writes the new root, with the signatures that are possible
    /// here, to `draft`.
    ///
    /// # Errors
    /// There is such a file already, or it cannot be written.
    pub fn draft_rotation(
        &mut self,
        role: Role,
        old: Option<&str>,
        draft: &Path,
    ) -> Result<Rotation> {
        absent(draft)?;
        let next = self.replaced(role, old)?;
        self.write_draft(next, draft)
    }

    /// Starts what [`Repository::renew_root`] does, in the same way.
    ///
    /// # Errors
    /// There is such a file already, or it cannot be written.
    pub fn draft_renewal(&mut self, draft: &Path) -> Result<Rotation> {
        absent(draft)?;
        let next = self.following_root();
        self.write_draft(next, draft)
    }

    /// Publishes a draft that enough of the root's keys have signed.
    ///
    /// # Errors
    /// There are too few signatures, it is not the next root of this
    /// repository, or a new online key is not available.
    pub fn install_draft(&mut self, draft: &Path) -> Result<Rotation> {
        let signed: Signed<Root> = json(draft, &files::read(draft, MAX_METADATA)?)?;
        let current = &self.metadata.root.signed;
        let next = current.version.saturating_add(1);
        if signed.signed.version != next {
            return Err(Error::metadata(
                draft,
                format!(
                    "is root {}, but the next one is {next}: make a new draft",
                    signed.signed.version
                ),
            ));
        }
        for root in [current, &signed.signed] {
            enough(root, &signed).map_err(|problem| Error::metadata(draft, problem))?;
        }
        self.publish_root(signed)
    }

    /// The next root with a new key instead of an old one.
    fn replaced(&mut self, role: Role, old: Option<&str>) -> Result<Root> {
        let old = self.key_id(role, old)?;
        let mut next = self.following_root();
        let added = self.keys.add(role)?;
        if let Some(keys) = next.roles.get_mut(&role.tuf()) {
            for id in &mut keys.keyids {
                if hexadecimal(id) == old {
                    *id = added.tuf_id.clone();
                }
            }
        }
        next.keys.insert(added.tuf_id.clone(), added.public.clone());
        let used: Vec<_> = next
            .roles
            .values()
            .flat_map(|role| role.keyids.clone())
            .collect();
        next.keys.retain(|id, _| used.contains(id));
        Ok(next)
    }

    fn following_root(&self) -> Root {
        let mut next = self.metadata.root.signed.clone();
        next.version = next.version.saturating_add(1);
        next.expires = self.expiry.root.after(self.now);
        next
    }

    fn write_draft(&self, next: Root, draft: &Path) -> Result<Rotation> {
        let current = &self.metadata.root.signed;
        let signed = Signed {
            signatures: signatures(&self.keys, &[current, &next], &next)?,
            signed: next,
        };
        files::put(draft, &encode(&signed)?)?;
        Ok(rotation(current, &signed))
    }

    /// Publishes a root that has the required signatures.
    fn publish_root(&mut self, signed: Signed<Root>) -> Result<Rotation> {
        let current = self.metadata.root.signed.clone();
        let next = signed.signed.clone();
        let file = encode(&signed)?;
        let path = self.layout.root(next.version.get());
        let both = [&next, &current];
        // Without the old online key (if it is lost, say) the metadata can only
        // be valid for the new root, which then must come first.
        let write = |roots: &[&Root], metadata: &mut _| {
            Writer {
                layout: &self.layout,
                keys: &self.keys,
                roots,
                expiry: &self.expiry,
                now: self.now,
            }
            .prepare(metadata, Scope::All)
        };
        let timestamp = self.layout.timestamp();
        match write(&both, &mut self.metadata) {
            Ok(new) => {
                files::put(&timestamp, &new)?;
                files::put(&path, &file)?;
            }
            Err(Error::Key { .. }) => {
                let new = write(&both[..1], &mut self.metadata)?;
                files::put(&path, &file)?;
                files::put(&timestamp, &new)?;
            }
            Err(error) => return Err(error),
        }
        files::put(&self.keys.trust(), &file)?;
        let rotation = rotation(&current, &signed);
        self.metadata.root = signed;
        for id in &rotation.removed {
            self.keys.retire(id)?;
        }
        Ok(rotation)
    }

    /// The whole id of a role's key.
    fn key_id(&self, role: Role, begin: Option<&str>) -> Result<String> {
        let ids: Vec<String> = self
            .metadata
            .root
            .signed
            .roles
            .get(&role.tuf())
            .map(|keys| keys.keyids.iter().map(|id| hexadecimal(id)).collect())
            .unwrap_or_default();
        let fitting: Vec<&String> = ids
            .iter()
            .filter(|id| begin.is_none_or(|begin| id.starts_with(begin)))
            .collect();
        match fitting.as_slice() {
            [one] => Ok((*one).clone()),
            _ => Err(Error::Refused(format!(
                "which key of {role} should be replaced? Give the start of one of these ids: {}",
                ids.join(", ")
            ))),
        }
    }
}

/// Adds the signatures of the root's keys in `keys` to a draft. `keys` must
/// contain the root in force, and the draft must be its successor: the answer
/// shows the signer which keys it adds and removes.
///
/// # Errors
/// The draft requires none of the keys, or is not the next root.
pub fn sign_draft(draft: &Path, keys: &KeyFolder) -> Result<Rotation> {
    let mut signed: Signed<Root> = json(draft, &files::read(draft, MAX_METADATA)?)?;
    let trust = keys.trust();
    let current: Signed<Root> = json(&trust, &files::read(&trust, MAX_METADATA)?)?;
    enough(&current.signed, &current).map_err(|problem| Error::metadata(&trust, problem))?;
    if signed.signed.version != current.signed.version.saturating_add(1) {
        return Err(Error::metadata(
            draft,
            format!(
                "is root {}, which does not follow root {} in {}",
                signed.signed.version,
                current.signed.version,
                trust.display()
            ),
        ));
    }
    let new = signatures(keys, &[&current.signed, &signed.signed], &signed.signed)?;
    if new.is_empty() {
        return Err(Error::key(
            keys.path(),
            "none of its keys may sign a root that follows the one in force",
        ));
    }
    signed
        .signatures
        .retain(|old| new.iter().all(|new| new.keyid != old.keyid));
    signed.signatures.extend(new);
    files::put(draft, &encode(&signed)?)?;
    Ok(rotation(&current.signed, &signed))
}

fn absent(draft: &Path) -> Result<()> {
    if draft.exists() {
        return Err(Error::Refused(format!(
            "{} exists already: install it with `wherry-release keys install`, or remove it",
            draft.display()
        )));
    }
    Ok(())
}

fn rotation(current: &Root, next: &Signed<Root>) -> Rotation {
    let ids = |root: &Root, other: &Root| -> Vec<String> {
        let mut ids: Vec<String> = root
            .keys
            .keys()
            .filter(|id| !other.keys.contains_key(*id))
            .map(|id| hexadecimal(id))
            .collect();
        ids.sort();
        ids
    };
    Rotation {
        root_version: next.signed.version.get(),
        expires: next.signed.expires,
        removed: ids(current, &next.signed),
        added: ids(&next.signed, current),
        signed_by: next
            .signatures
            .iter()
            .map(|signature| hexadecimal(&signature.keyid))
            .collect(),
    }
}
