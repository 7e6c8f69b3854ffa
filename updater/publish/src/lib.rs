//! Publishes releases: keys, signed metadata, channels, in a folder that any
//! static web server can serve (`docs/repository.md`).
//!
//! In the order of their use: [`keys`] are made; [`Repository::init`] makes a
//! repository with them; a [`ReleaseFolder`] is the output of a build; then
//! [`Repository::publish`] and the other changes to a channel; [`verify`]
//! checks everything as a machine would, and more closely.
//!
//! Invariants:
//!
//! - Whatever is read from the repository is verified with the pinned root
//!   before it is signed again: a compromised server gets nothing signed.
//! - A file is written beside its destination and renamed; a release's files
//!   come first, then the channel, `N.targets.json`, `N.snapshot.json`, and
//!   `timestamp.json` last. A reader sees the state before or the one after,
//!   and an interrupted publisher is run again.
//! - A published file is never changed.

mod artifacts;
mod error;
mod files;
pub mod keys;
mod metadata;
mod offers;
pub mod progress;
mod prune;
mod repository;
mod rotate;
mod span;
pub mod verify;

pub use artifacts::ReleaseFolder;
pub use error::{Error, Result};
pub use keys::{KeyFolder, Role};
pub use offers::{Publish, Published, WaveRule};
pub use prune::Pruned;
pub use repository::{Init, Repository};
pub use rotate::{Rotation, sign_draft};
pub use span::{Expiry, Lifetime};
