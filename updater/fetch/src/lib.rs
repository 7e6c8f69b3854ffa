//! Metadata and blocks of a release, from untrusted servers.
//!
//! A repository is a tree of static files ([`release`] says which), on servers or
//! in a folder. [`Repository::open`] reads its metadata, [`Repository::channel`]
//! what is on offer, [`Repository::fill_slot`], [`Repository::uki`] and
//! [`Repository::artifact`] the files of a release, each from any mirror
//! that gives what was signed.
//!
//! Nothing that comes from a server is believed: how long an answer is, is known
//! before it is asked for; each block is hashed as it arrives; a mirror that gives
//! anything else, or nothing, is dropped with the reason, and the next one asked.

mod address;
mod datastore;
mod download;
mod error;
mod filling;
mod local;
mod metadata;
mod mirrors;
mod moves;
mod repository;
mod settings;
mod slot;
mod source;
mod uki;
mod wanted;

use std::hash::{BuildHasher, Hasher, RandomState};

pub use error::FetchError;
pub use http_client::{Failure, Fault, Patience, Retry};
pub use mirrors::MirrorUse;
pub use repository::{Fetched, Progress, Repository, Slot};
pub use settings::Settings;

/// A number from 0 to 1 that differs from machine to machine and from call to call.
fn jitter() -> f64 {
    RandomState::new().build_hasher().finish() as f64 / u64::MAX as f64
}
