//! Publishes releases: keys, signed metadata, channels, in a folder that any
//! static web server can serve (`docs/repository.md`).
//!
//! In the order of their use: [`keys`] are made; [`Repository::init`] makes a
//! repository with them; a [`ReleaseFolder`] is what a build left; then
//! [`Repository::publish`] and what else is done to a channel; [`verify`] looks
//! at everything as a machine would, and more closely.
//!
//! What holds throughout:
//!
//! - Whatever is read from the repository is verified with the pinned root before
//!   it is signed again: a server that was broken into gets nothing signed.
//! - A file is written beside its place and renamed; a release's files come
//!   first, then the channel, `N.targets.json`, `N.snapshot.json`, and
//!   `timestamp.json` last. A reader sees the state before or the one after, and
//!   a publisher that was interrupted is run again.
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
