//! Programs of the workspace that `cargo xtask` runs on this host. It calls them,
//! so that it builds without what they depend on.

use crate::cargo;
use crate::workspace::Workspace;
use anyhow::{Context, Result, bail};
use std::path::PathBuf;
use std::process::Command;

/// A command for the program `name` of the workspace, built if it has to be.
pub fn command(workspace: &Workspace, name: &'static str) -> Result<Command> {
    let mut build = Command::new("cargo");
    // Of all packages, so that what it depends on has the features that the tests
    // build it with, and is not compiled twice.
    build.args(["build", "--workspace", "--bin", name]);
    let what = format!("the program {name}");
    let programs = cargo::build(workspace, &mut build, name, &what)?;
    let program: &PathBuf = programs
        .get(name)
        .with_context(|| format!("cargo did not say where it put {name}"))?;
    Ok(Command::new(program))
}

/// Runs a command on this terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("start {}", command.get_program().display()))?;
    if !status.success() {
        // It has said why.
        bail!("{} failed ({status})", command.get_program().display());
    }
    Ok(())
}
