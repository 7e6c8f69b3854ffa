//! Programs of the workspace that `cargo xtask` runs on this host: it calls them,
//! so that it builds without them.

use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::ffi::OsStr;
use std::process::Command;

/// Builds the program `name` of the package with that name, and runs it on this
/// terminal.
pub fn run<A: AsRef<OsStr>>(
    workspace: &Workspace,
    name: &str,
    arguments: impl IntoIterator<Item = A>,
) -> Result<()> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--package", name, "--bin", name, "--"])
        .args(arguments)
        .current_dir(&workspace.root)
        .status()
        .context("start cargo")?;
    if !status.success() {
        bail!("{name} failed ({status})");
    }
    Ok(())
}
