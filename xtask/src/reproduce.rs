//! Builds the image a second time, elsewhere, and compares.

use crate::fingerprint;
use crate::image::{self, Image};
use crate::workspace::{self, Workspace};
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::Path;

/// The test's name, for the filter.
pub const NAME: &str = "two_builds_in_different_folders_are_bit_identical";

/// Copies the checkout, uncommitted changes included, to a folder of another
/// name, builds the image there from nothing but tools tree and kernel, and
/// compares every output with this checkout's.
pub fn test(workspace: &Workspace) -> Result<()> {
    let folder = workspace.build.join("reproduced");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let _lock = workspace::lock(&folder)?;
    let root = folder.join("a second checkout");
    if root.exists() {
        fs::remove_dir_all(&root).context("remove the former second checkout")?;
    }
    copy_checkout(&workspace.root, &root)?;
    let second = workspace.moved_to(&root)?;
    eprintln!("\ntest {NAME}: building in {}", root.display());
    let ours = {
        let _lock = workspace.lock()?;
        outputs(&image::make(workspace)?)?
    };
    let theirs = outputs(&image::make(&second)?)?;
    let differing: Vec<&str> = ours
        .iter()
        .zip(&theirs)
        .filter(|(a, b)| a.1 != b.1)
        .map(|(a, _)| a.0)
        .collect();
    if !differing.is_empty() {
        bail!(
            "{NAME}: {} differ between build/image and {}",
            differing.join(", "),
            second.build.join("image").display()
        );
    }
    eprintln!("test {NAME} ... ok");
    fs::remove_dir_all(&root).context("remove the second checkout")
}

fn outputs(image: &Image) -> Result<Vec<(&'static str, String)>> {
    [
        ("the disk", image.disk()),
        ("the root", image.root()),
        ("the hash tree", image.hash_tree()),
        ("the unified kernel image", image.uki()),
    ]
    .into_iter()
    .map(|(name, path)| Ok((name, fingerprint::sha256(&path)?)))
    .collect()
}

fn copy_checkout(from: &Path, to: &Path) -> Result<()> {
    for file in workspace::files(from)? {
        let (source, target) = (from.join(&file), to.join(&file));
        // A deleted file stays in the list until that is committed.
        if !source.exists() {
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::copy(&source, &target).with_context(|| format!("copy {file}"))?;
    }
    Ok(())
}
