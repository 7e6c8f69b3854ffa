//! The manifest: all of one release.

use serde::{Deserialize, Serialize};

use crate::bounds::{MAX_DISK, MAX_LOADER, MAX_NOTES, MAX_SBOM, MAX_TEXT, MAX_UKI};
use crate::check::{Check, time};
use crate::{BlockIndex, RootHash, Sha256Sum, UkiIndex, VerityParameters, Version};

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

impl Manifest {
    /// Its files with the names of their fields.
    pub fn artifacts(&self) -> [(&'static str, &Artifact); 8] {
        [
            ("root", &self.root),
            ("root_index", &self.root_index),
            ("tree", &self.tree),
            ("uki", &self.uki),
            ("uki_index", &self.uki_index),
            ("loader", &self.loader),
            ("sbom", &self.sbom),
            ("disk", &self.disk),
        ]
    }

    pub(crate) fn check(&self, check: &mut Check) {
        if let Err(error) = self.verity.check() {
            check.wrong("verity", error.to_string());
            return;
        }
        let at_most = |limit: u64| 1..=limit;
        let exactly = |length: u64| length..=length;
        for (field, artifact, lengths) in [
            ("root", &self.root, exactly(self.verity.data_length())),
            ("root", &self.root, at_most(layout::verity::MAX_ROOT)),
            (
                "root_index",
                &self.root_index,
                exactly(BlockIndex::length(self.verity.data_blocks)),
            ),
            ("tree", &self.tree, exactly(self.verity.tree_length())),
            ("uki", &self.uki, at_most(MAX_UKI)),
            (
                "uki_index",
                &self.uki_index,
                UkiIndex::lengths(self.uki.length),
            ),
            ("loader", &self.loader, at_most(MAX_LOADER)),
            ("sbom", &self.sbom, at_most(MAX_SBOM)),
            ("disk", &self.disk, at_most(MAX_DISK)),
        ] {
            check.within(field, |check| {
                if !lengths.contains(&artifact.length) {
                    let (least, most) = lengths.into_inner();
                    let allowed = if least == most {
                        least.to_string()
                    } else {
                        format!("{least} to {most}")
                    };
                    check.wrong(
                        "length",
                        format!("{} bytes, and has to be {allowed}", artifact.length),
                    );
                }
                if let Some(problem) = path_problem(&artifact.path) {
                    check.wrong("path", problem);
                }
            });
        }
        if let Some(least) = &self.min_version
            && *least > self.version
        {
            check.wrong(
                "min_version",
                format!("{least} is newer than the release itself, {}", self.version),
            );
        }
        if self.notes.len() > MAX_NOTES {
            check.wrong(
                "notes",
                format!(
                    "{} bytes, at most {MAX_NOTES} are allowed",
                    self.notes.len()
                ),
            );
        }
        if let Err(problem) = time(&self.published) {
            check.wrong("published", problem);
        }
    }
}

/// What keeps `path` from being one below a repository's address.
fn path_problem(path: &str) -> Option<String> {
    let shown: String = path
        .chars()
        .take(80)
        .flat_map(char::escape_default)
        .collect();
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-/".contains(&byte);
    let problem = if path.is_empty() || path.len() > MAX_TEXT {
        format!("has to have 1 to {MAX_TEXT} bytes")
    } else if !path.bytes().all(allowed) {
        "may have letters, digits, '.', '_', '~', '-', '/'".to_owned()
    } else if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
        "has to stay below the repository's address: no empty part, no '.', no '..'".to_owned()
    } else {
        return None;
    };
    Some(format!("'{shown}' {problem}"))
}
