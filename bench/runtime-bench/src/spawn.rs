//! Runs a command and prints the most memory that one of its processes had.
//!
//! The kernel also counts what a process had before it executed its program, that
//! is, what its parent had. So this has to be a program that has as little as can
//! be, and does nothing else.

use anyhow::{Context, Result, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use std::ffi::OsString;
use std::process::{Command, Stdio};

/// Runs `command`, and prints kibibytes.
pub fn run(command: &[OsString]) -> Result<()> {
    let (program, arguments) = command.split_first().context("no command")?;
    let status = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stdin(Stdio::null())
        .status()?;
    ensure!(status.success(), "{program:?} ended with {status}");
    println!("{}", getrusage(UsageWho::RUSAGE_CHILDREN)?.max_rss());
    Ok(())
}
