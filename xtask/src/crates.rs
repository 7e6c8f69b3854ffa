//! Our own programs, static, and the same wherever they are built.

use crate::workspace::Workspace;
use crate::{cargo, process};
use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;

/// The stage.
pub const STAGE: &str = "programs";

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// How programs are compiled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// As they are in the image: small.
    Release,
    /// Quickly, with checks.
    Dev,
}

/// Builds the named binaries and returns where each one is. `settings` replace those
/// of cargo's configuration (`profile.release.package.network.opt-level=2`).
pub fn build(
    workspace: &Workspace,
    names: &BTreeSet<String>,
    profile: Profile,
    settings: &[String],
) -> Result<BTreeMap<String, PathBuf>> {
    let folder = workspace.build.join("cargo");
    let owners = owners(workspace)?;
    let mut command = Command::new("cargo");
    command
        .args(["build", "--target", TARGET, "--target-dir"])
        .arg(&folder)
        .env("CARGO_ENCODED_RUSTFLAGS", flags(workspace)?.join("\u{1f}"));
    match profile {
        Profile::Release => {
            command.arg("--release");
        }
        Profile::Dev => {}
    }
    for setting in settings {
        command.args(["--config", setting]);
    }
    for name in names {
        let Some(package) = owners.get(name) else {
            bail!("{name} is in a root.toml but no binary of this workspace");
        };
        command.args(["--package", &exactly(package), "--bin", name]);
    }
    let what = "our own programs, static";
    let built = cargo::build(workspace, &mut command, STAGE, what)?;
    for name in names {
        ensure!(built.contains_key(name), "cargo did not build {name}");
    }
    Ok(built)
}

/// A package of the workspace for `--package`: a dependency may have the same name,
/// and all of ours have this version.
pub fn exactly(package: &str) -> String {
    format!("{package}@{}", env!("CARGO_PKG_VERSION"))
}

/// Which package each binary of the workspace belongs to.
pub fn owners(workspace: &Workspace) -> Result<BTreeMap<String, String>> {
    let metadata = process::output(
        Command::new("cargo")
            .args(["metadata", "--no-deps", "--format-version", "1"])
            .current_dir(&workspace.root),
    )?;
    let metadata: Value = serde_json::from_str(&metadata).context("read cargo's metadata")?;
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let mut owners = BTreeMap::new();
    for package in list(&metadata, "packages") {
        for target in list(&package, "targets") {
            let is_binary = list(&target, "kind").iter().any(|kind| kind == "bin");
            if let (true, Some(name), Some(package)) =
                (is_binary, target["name"].as_str(), package["name"].as_str())
            {
                owners.insert(name.to_owned(), package.to_owned());
            }
        }
    }
    Ok(owners)
}

/// Static, and without the paths of this host, which panic messages would show
/// and which would make each checkout's build another one.
fn flags(workspace: &Workspace) -> Result<Vec<String>> {
    let cargo_home = match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => std::env::home_dir()
            .context("HOME is not set")?
            .join(".cargo"),
    };
    Ok(vec![
        "-Ctarget-feature=+crt-static".to_owned(),
        format!("--remap-path-prefix={}=/cargo", cargo_home.display()),
        format!("--remap-path-prefix={}=/wherry", workspace.root.display()),
    ])
}
