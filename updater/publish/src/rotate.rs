//! New keys for a repository, and a new root without other keys.
//!
//! A new root is signed by a threshold of the former one's keys and of its own,
//! so that machines follow from the one they trust to the newest. The metadata
//! is signed with the former and the new online key once, where both are at hand:
//! it then holds for a reader who has not seen the new root yet.

use jiff::Timestamp as Time;
use serde::Serialize;
use tough::schema::{Root, Signed};

use crate::error::{Error, Result};
use crate::files;
use crate::keys::{Role, hexadecimal};
use crate::metadata::{Scope, Writer, encode, sign};
use crate::repository::Repository;

/// What a rotation did.
#[derive(Clone, Debug, Serialize)]
pub struct Rotation {
    /// The new root's version.
    pub root_version: u64,
    /// When it expires.
    pub expires: Time,
    /// The key that nothing is taken from any more.
    pub removed: Option<String>,
    /// The new key.
    pub added: Option<String>,
}

impl Repository {
    /// Replaces a key by a new one. `old` is the begin of the old one's id, and
    /// can be left out where the role has one key. The root's keys have to be at
    /// hand, as many as its threshold asks for.
    ///
    /// # Errors
    /// Keys are missing, or something cannot be written; nothing has changed for
    /// readers then.
    pub fn rotate(&mut self, role: Role, old: Option<&str>) -> Result<Rotation> {
        let old = self.key_id(role, old)?;
        // Signing with the old root's keys is tried before a new key is made.
        let current = self.metadata.root.signed.clone();
        sign(&self.keys, &[&current], &current)?;
        let added = self.keys.add(role)?;
        let (added_id, tuf_id, public) =
            (added.id.clone(), added.tuf_id.clone(), added.public.clone());
        let mut next = current.clone();
        if let Some(keys) = next.roles.get_mut(&role.tuf()) {
            for id in &mut keys.keyids {
                if hexadecimal(id) == old {
                    *id = tuf_id.clone();
                }
            }
        }
        next.keys.insert(tuf_id, public);
        let used: Vec<_> = next
            .roles
            .values()
            .flat_map(|role| role.keyids.clone())
            .collect();
        next.keys.retain(|id, _| used.contains(id));
        let rotation = self.publish_root(next)?;
        self.keys.retire(&old)?;
        Ok(Rotation {
            removed: Some(old),
            added: Some(added_id),
            ..rotation
        })
    }

    /// Signs the root anew with the same keys, before it expires.
    ///
    /// # Errors
    /// Keys are missing, or something cannot be written.
    pub fn renew_root(&mut self) -> Result<Rotation> {
        self.publish_root(self.metadata.root.signed.clone())
    }

    fn publish_root(&mut self, mut next: Root) -> Result<Rotation> {
        let current = self.metadata.root.signed.clone();
        next.version = current.version.saturating_add(1);
        next.expires = self.expiry.root.after(self.now);
        let signed = sign(&self.keys, &[&current, &next], &next)?;
        let file = encode(&signed)?;
        let path = self.layout.root(next.version.get());
        let both = [&next, &current];
        // Without the old online key (lost, say) the metadata can only hold for
        // the new root, and that has to come first.
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
        let rotation = Rotation {
            root_version: next.version.get(),
            expires: next.expires,
            removed: None,
            added: None,
        };
        self.metadata.root = Signed {
            signed: next,
            signatures: signed.signatures,
        };
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
                "which key of {role} is to be replaced? Name the begin of one of: {}",
                ids.join(", ")
            ))),
        }
    }
}
