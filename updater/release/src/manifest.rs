//! The manifest: all of one release.

use serde::{Deserialize, Serialize};

use crate::{RootHash, Sha256Sum, VerityParameters, Version};

/// One file of a release.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Artifact {
    /// Where it is, relative to the repository's address.
    pub path: String,
    /// Its length in bytes.
    pub length: u64,
    /// The SHA-256 of its content.
    pub sha256: Sha256Sum,
}

/// A release and its files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The release's version.
    pub version: Version,
    /// The root hash of its root.
    pub root_hash: RootHash,
    /// How the root's hash tree is made.
    pub verity: VerityParameters,
    /// The root file system, as long as verity covers it.
    pub root: Artifact,
    /// A [`crate::BlockIndex`] of the root.
    pub root_index: Artifact,
    /// The hash tree with its superblock.
    pub tree: Artifact,
    /// The unified kernel image.
    pub uki: Artifact,
    /// A [`crate::UkiIndex`] of the unified kernel image.
    pub uki_index: Artifact,
    /// systemd-boot.
    pub loader: Artifact,
    /// The version of systemd-boot.
    pub loader_version: Version,
    /// The oldest release from which a machine can be updated to this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_version: Option<Version>,
    /// The list of contents (SPDX).
    pub sbom: Artifact,
    /// The disk image that a new machine is made from.
    pub disk: Artifact,
    /// What is new, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub notes: String,
    /// When it was published (RFC 3339).
    pub published: String,
}
