//! A bundle: a directory with a configuration.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime::{RootBuilder, Spec};

/// A configuration, and the text that it was read from.
#[derive(Debug)]
pub struct Bundle {
    pub directory: PathBuf,
    pub text: Vec<u8>,
    /// With an absolute root path.
    pub spec: Spec,
    pub rootfs: PathBuf,
}

impl Bundle {
    /// Reads the bundle in a directory.
    pub fn load(directory: &Path) -> Result<Bundle> {
        let directory = fs::canonicalize(directory)
            .with_context(|| format!("open the bundle {}", directory.display()))?;
        let path = directory.join("config.json");
        let text = fs::read(&path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                anyhow!("JSON specification file {} not found", path.display())
            }
            _ => anyhow::Error::from(error).context(format!("read {}", path.display())),
        })?;
        Bundle::parse(directory, text)
    }

    /// A configuration by its text.
    pub fn parse(directory: PathBuf, text: Vec<u8>) -> Result<Bundle> {
        let mut spec: Spec = serde_json::from_slice(&text)
            .with_context(|| format!("parse config.json of {}", directory.display()))?;
        let Some(root) = spec.root() else {
            bail!("root: is missing in config.json of {}", directory.display());
        };
        let rootfs = directory.join(root.path());
        let absolute = RootBuilder::default()
            .path(rootfs.clone())
            // The builder's own default is true, the specification's false.
            .readonly(root.readonly().unwrap_or(false));
        spec.set_root(Some(absolute.build().context("root")?));
        Ok(Bundle {
            directory,
            text,
            spec,
            rootfs,
        })
    }
}
