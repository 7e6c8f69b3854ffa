//! The releases that `bench update` compares: one, and four that follow it.

use crate::variant::Variant;
use crate::workspace::Workspace;
use crate::{image, kernel, test_releases, tools};
use anyhow::{Context, Result};
use std::path::Path;

/// The version that machines have.
pub const OLD: &str = "1.0";

/// An update from [`OLD`].
pub struct Pair {
    /// Its name in the table and the JSON object.
    pub name: &'static str,
    /// The version that machines get.
    pub version: &'static str,
}

/// Libraries that all of our programs have in them.
const LIBRARIES: [&str; 4] = ["memchr", "nix", "serde_json", "toml"];

/// Makes the releases below `folder`, each in a folder of its version's name with
/// the files to publish in `release`. Each has another version, so its list of
/// contents and its `os-release` differ too.
pub fn make(workspace: &Workspace, folder: &Path) -> Result<Vec<Pair>> {
    let tree = tools::make(workspace)?;
    let other_kernel = Some(kernel::make_numbered(workspace, &tree, 2)?.bzimage());
    // Compiled for speed instead of size: other code of the same source.
    let faster = |package: &str| format!("profile.release.package.{package}.opt-level=2");
    let libraries: Vec<String> = LIBRARIES.map(faster).to_vec();
    let changes = [
        (
            "kernel-only",
            "1.1",
            Variant {
                kernel: other_kernel.clone(),
                ..Variant::default()
            },
        ),
        (
            "one service changed",
            "1.2",
            Variant {
                cargo: vec![faster("network")],
                ..Variant::default()
            },
        ),
        (
            "base library changed",
            "1.3",
            Variant {
                cargo: libraries.clone(),
                ..Variant::default()
            },
        ),
        (
            "everything changed",
            "1.4",
            Variant {
                cargo: libraries,
                kernel: other_kernel,
                // The compressor's other clusters leave no block as it was.
                erofs: Some("-C32768".to_owned()),
                ..Variant::default()
            },
        ),
    ];
    let release = |version: &str, variant: &Variant| {
        let workspace = workspace.with_version(version);
        let folder = folder.join(version);
        image::make_variant(&workspace, variant, &folder)
            .and_then(|image| test_releases::lay_out(&image, version, &folder.join("release")))
            .with_context(|| format!("while making release {version}"))
    };
    release(OLD, &Variant::default())?;
    changes
        .into_iter()
        .map(|(name, version, variant)| {
            release(version, &variant)?;
            Ok(Pair { name, version })
        })
        .collect()
}
