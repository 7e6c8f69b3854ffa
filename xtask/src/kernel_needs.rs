//! What container software looks for in a kernel (`kernel-config/needs.toml`),
//! and whether ours has it.

use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::path::Path;

/// Names of options, without `CONFIG_`, by who needs them.
#[derive(Debug, PartialEq, Eq)]
pub struct Needs(BTreeMap<String, String>);

/// Options that someone needs and the kernel has not.
#[derive(Debug, PartialEq, Eq)]
pub struct Unmet(Vec<String>);

impl Needs {
    /// Reads the file at `path`.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        Ok(Self(toml::from_str(text)?))
    }

    /// Compares a kernel's final `.config` with all needs. There are no modules,
    /// so an option is built in or it is not there.
    pub fn check(&self, config: &str) -> Result<(), Unmet> {
        let built_in: BTreeSet<&str> = config
            .lines()
            .filter_map(|line| line.strip_prefix("CONFIG_")?.strip_suffix("=y"))
            .collect();
        let mut unmet = Vec::new();
        for (who, options) in &self.0 {
            for option in options.split_ascii_whitespace() {
                if !built_in.contains(option) {
                    unmet.push(format!("{who} needs CONFIG_{option}"));
                }
            }
        }
        if unmet.is_empty() {
            Ok(())
        } else {
            Err(Unmet(unmet))
        }
    }
}

impl fmt::Display for Unmet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the kernel lacks what kernel-config/needs.toml says that it has; ask for it in a \
             fragment, or take the need away with its reason:\n  {}",
            self.0.join("\n  ")
        )
    }
}

impl std::error::Error for Unmet {}

#[cfg(test)]
mod tests {
    use super::Needs;
    use crate::kernel_config::Fragments;
    use std::path::Path;

    const NEEDS: &str = "# why\nsomeone = \"\"\"\nA B\nC\n\"\"\"\nother = \"A\"\n";

    #[test]
    fn a_missing_option_names_who_needs_it() {
        let needs = Needs::parse(NEEDS).unwrap();
        let config = "CONFIG_A=y\n# CONFIG_B is not set\nCONFIG_C=m\nCONFIG_BB=y\n";
        let message = needs.check(config).unwrap_err().to_string();
        assert!(message.ends_with("\n  someone needs CONFIG_B\n  someone needs CONFIG_C"));
    }

    #[test]
    fn options_that_are_built_in_meet_the_needs() {
        let needs = Needs::parse(NEEDS).unwrap();
        let config = "CONFIG_A=y\nCONFIG_B=y\nCONFIG_C=y\n";
        assert_eq!(needs.check(config), Ok(()));
    }

    #[test]
    fn the_projects_own_files_can_be_read() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../kernel-config");
        Needs::load(&folder.join("needs.toml")).unwrap();
        assert!(!Fragments::load(&folder).unwrap().is_empty());
    }
}
