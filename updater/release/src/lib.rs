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
//! and SHA-256 of each file. So a check for updates costs only the timestamp, and
//! the metadata does not grow with the number of releases.
//!
//! `docs/repository.md` is the manual page.

mod block_index;
mod bounds;
mod channel;
mod check;
mod hash;
mod loader;
mod manifest;
mod tree;
mod uki;

pub use block_index::{BlockIndex, IndexError, SHORT, Short, short};
pub use bounds::{
    MAX_CHANNEL, MAX_DISK, MAX_LOADER, MAX_MIRRORS, MAX_NOTES, MAX_OFFERS, MAX_SBOM, MAX_UKI,
    MAX_WAVES,
};
pub use channel::{Channel, ChannelError, FORMAT, Offer, Wave};
pub use hash::{Sha256Sum, SumError};
pub use loader::{LOADER_SECTION, loader_version};
pub use manifest::{Artifact, Manifest};
pub use tree::{BlockHasher, Sink, TreeBuilder, tree};
pub use uki::{Chunk, Section, UKI_HEAD, UkiError, UkiIndex, sections};
// A release has the same names on a server as on a disk.
pub use layout::verity::{BLOCK, MAX_ROOT, VerityError, VerityParameters};
pub use layout::{RootHash, RootHashError, Version, VersionError};
