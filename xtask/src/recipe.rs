//! `root.toml`: what a root is made of.

use anyhow::{Context, Result, bail};
use std::collections::BTreeMap;
use std::fs;
use std::path::{Component, Path};
use toml::{Table, Value};

/// The content of a `root.toml`.
#[derive(Debug, Default)]
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
        let mut recipe = Self::default();
        for (key, value) in toml::from_str::<Table>(text)? {
            match key.as_str() {
                "binaries" => recipe.binaries = texts(&key, value)?,
                "directories" => recipe.directories = texts(&key, value)?,
                "links" => recipe.links = each(&key, value, self::text)?,
                "debian" => recipe.debian = each(&key, value, texts)?,
                _ => bail!("unknown key {key}: binaries, directories, links and debian are known"),
            }
        }
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

fn text(key: &str, value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        other => bail!("{key} has to be a text, not a {}", other.type_str()),
    }
}

fn texts(key: &str, value: Value) -> Result<Vec<String>> {
    match value {
        Value::Array(items) => items.into_iter().map(|item| text(key, item)).collect(),
        other => bail!(
            "{key} has to be a list of texts, not a {}",
            other.type_str()
        ),
    }
}

/// A table, each of whose values `read` reads.
fn each<T>(
    key: &str,
    value: Value,
    read: impl Fn(&str, Value) -> Result<T>,
) -> Result<BTreeMap<String, T>> {
    match value {
        Value::Table(table) => table
            .into_iter()
            .map(|(inner, value)| {
                let read = read(&format!("{key}.{inner}"), value)?;
                Ok((inner, read))
            })
            .collect(),
        other => bail!("{key} has to be a table, not a {}", other.type_str()),
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
