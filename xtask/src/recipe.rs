//! `root.toml`: what a root is made of.

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};

/// The content of a `root.toml`.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Recipe {
    /// Cargo binaries of this workspace, put into `/usr/bin`.
    pub binaries: Vec<String>,
    /// Empty folders: mount points.
    pub directories: Vec<String>,
    /// Symbolic links: where, and what they say.
    pub links: BTreeMap<String, String>,
    /// Files of Debian packages, by package. The shared libraries that they
    /// need come with them.
    pub debian: BTreeMap<String, Vec<String>>,
}

impl Recipe {
    /// Reads a recipe.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("in {}", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let recipe: Self = toml::from_str(text)?;
        let paths = recipe
            .directories
            .iter()
            .chain(recipe.links.keys())
            .chain(recipe.debian.values().flatten());
        for path in paths {
            check_path(path)?;
        }
        if let Some(binary) = recipe.binaries.iter().find(|name| name.contains('/')) {
            bail!("{binary} is no name of a cargo binary");
        }
        Ok(recipe)
    }
}

/// Paths are absolute and stay inside the root.
fn check_path(path: &str) -> Result<()> {
    let plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    if path.starts_with('/') && path.len() > 1 && plain {
        Ok(())
    } else {
        bail!("{path:?} is no absolute path without ..");
    }
}

#[cfg(test)]
mod tests {
    use super::Recipe;

    #[test]
    fn a_recipe_names_binaries_folders_links_and_debian_files() {
        let recipe = Recipe::parse(
            r#"
            binaries = ["network"]
            directories = ["/state"]
            links = { "/bin/sh" = "/usr/bin/busybox" }
            [debian]
            busybox-static = ["/usr/bin/busybox"]
            "#,
        )
        .unwrap();
        assert_eq!(recipe.binaries, ["network"]);
        assert_eq!(recipe.links["/bin/sh"], "/usr/bin/busybox");
        assert_eq!(recipe.debian["busybox-static"], ["/usr/bin/busybox"]);
    }

    #[test]
    fn an_unknown_key_or_a_path_out_of_the_root_is_an_error() {
        for text in [
            "binary = [\"network\"]",
            "binaries = [\"../network\"]",
            "directories = [\"state\"]",
            "directories = [\"/../state\"]",
            "directories = [\"/\"]",
            "links = { \"sh\" = \"/usr/bin/busybox\" }",
            "[debian]\nbusybox = [\"usr/bin/busybox\"]",
        ] {
            assert!(Recipe::parse(text).is_err(), "{text}");
        }
    }
}
