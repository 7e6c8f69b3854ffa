//! Running other programs: quiet, and clear when one fails.

use anyhow::{Context, Result, bail};
use std::process::{Command, Stdio};

/// Runs a program; the error of one that fails has what it printed.
pub fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!(
            "{command:?} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}

/// Runs a program and returns its standard output. Standard error is this
/// program's.
pub fn output(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("start {name}"))?;
    if !output.status.success() {
        bail!("{command:?} failed ({})", output.status);
    }
    String::from_utf8(output.stdout).with_context(|| format!("{name} printed no text"))
}
