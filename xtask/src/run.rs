//! `cargo xtask run`: a machine of one's own, on this terminal.

use crate::workspace::Workspace;
use crate::{image, programs};
use anyhow::{Context, Result};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::time::Duration;

/// The program that boots the machine.
const MACHINE: &str = "machine";

/// The options of `cargo xtask run`.
#[derive(Debug)]
pub struct Options {
    /// Boots the kernel without firmware and boot loader.
    pub direct: bool,
    /// Starts over with a new disk.
    pub fresh: bool,
    /// Memory in MiB.
    pub memory: u32,
    /// Added to the kernel's command line, with `direct`.
    pub append: Option<String>,
    /// More arguments for QEMU.
    pub qemu: Vec<OsString>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            direct: false,
            fresh: false,
            memory: 512,
            append: None,
            qemu: Vec::new(),
        }
    }
}

/// Makes everything that is not up to date, then becomes the program that becomes
/// QEMU.
pub fn run(workspace: &Workspace, options: Options) -> Result<()> {
    let mut stages = image::to_come(workspace)?;
    if !stages.is_empty() {
        stages.push((MACHINE, Duration::from_secs(30)));
    }
    workspace.progress.plan(stages);
    let mut machine = {
        let _lock = workspace.lock()?;
        image::make(workspace)?;
        programs::command(workspace, MACHINE)?
    };
    machine.arg("--build").arg(&workspace.build).arg("run");
    if options.direct {
        machine.arg("--direct");
    }
    if options.fresh {
        machine.arg("--fresh");
    }
    machine.args(["--memory", &options.memory.to_string()]);
    if let Some(append) = options.append {
        machine.args(["--append", &append]);
    }
    machine.arg("--").args(options.qemu);
    Err(machine.exec()).context("start the machine")
}
