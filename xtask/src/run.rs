//! `cargo xtask run`: a machine of one's own, on this terminal.

use crate::disk::Kept;
use crate::image;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use clap::Args;
use machine::{Boot, Console, Qemu};
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::CommandExt;

/// What `cargo xtask run` can be told.
#[derive(Debug, Args)]
pub struct Options {
    /// Boots the kernel without firmware and boot loader
    #[arg(long)]
    direct: bool,
    /// Starts over with a new disk
    #[arg(long)]
    fresh: bool,
    /// Memory in MiB
    #[arg(long, default_value_t = 512)]
    memory: u32,
    /// Adds to the kernel's command line, with --direct
    #[arg(
        long,
        value_name = "ARGUMENTS",
        requires = "direct",
        allow_hyphen_values = true
    )]
    append: Option<String>,
    /// More arguments for QEMU
    #[arg(last = true, value_name = "QEMU ARGUMENTS")]
    qemu: Vec<OsString>,
}

/// Makes everything that is not up to date, then becomes QEMU.
pub fn run(workspace: &Workspace, options: Options) -> Result<()> {
    let build = {
        let _lock = workspace.lock()?;
        image::make(workspace)?
    };
    let kept = Kept::at(workspace.build.join("run"));
    kept.prepare(&build, options.fresh)?;
    let boot = if options.direct {
        Boot::Direct {
            kernel: build.vmlinux()?,
            command_line: [build.command_line()?, options.append.unwrap_or_default()].join(" "),
        }
    } else {
        Boot::Firmware {
            variables: kept.variables(),
        }
    };
    let mut qemu = Qemu::new(&build.tools()?, boot);
    qemu.memory = options.memory;
    qemu.disk = Some(kept.disk());
    qemu.reboots = true;
    qemu.arguments = options.qemu;
    if std::io::stdin().is_terminal() {
        qemu.console = Console::Terminal;
        eprintln!("run: Ctrl-A X ends the machine, Ctrl-A H helps");
    }
    Err(qemu.command()?.exec()).context("start QEMU")
}
