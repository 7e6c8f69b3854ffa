//! What a release is on a server.
//!
//! Below a repository's address, all static files:
//!
//! ```text
//! metadata/            TUF: N.root.json, timestamp.json, N.snapshot.json, N.targets.json
//! targets/channels/    the one kind of TUF target: <sha256>.<channel>.json, a Channel
//! releases/<version>/  what a Manifest names: root, block index, hash tree, UKI, its
//!                      block index, boot loader, list of contents, disk image
//! ```
//!
//! The files below `releases/` are not TUF targets of their own: the signed
//! channel holds the whole manifest of each release, and the manifest has length
//! and SHA-256 of each file. So a check for news costs the timestamp alone, and
//! the metadata does not grow with the number of releases.
//!
//! `docs/repository.md` is the manual page.

mod block_index;
mod channel;
mod hash;
mod manifest;
mod verity;
mod version;

pub use channel::{Channel, Offer, Wave};
pub use hash::{RootHash, Sha256Sum, SumError};
pub use manifest::{Artifact, Manifest};
pub use verity::{BLOCK, VerityParameters};
pub use version::{Version, VersionError};
