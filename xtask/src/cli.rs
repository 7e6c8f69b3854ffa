//! What can be typed after `cargo xtask`.

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::os::unix::process::CommandExt;
use xtask::workspace::Workspace;
use xtask::{bench, tools};

/// Builds, boots and tests Wherry.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", version, arg_required_else_help = true)]
pub struct Arguments {
    #[command(subcommand)]
    pub stage: Stage,
}

#[derive(Debug, Subcommand)]
pub enum Stage {
    /// Makes the tools tree, or runs one of its programs
    Tools {
        /// A program of the tree and its arguments (qemu-img info …)
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        command: Vec<String>,
    },
    /// Measures what booting costs
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Boot time, memory and size, beside the same kernel with a trivial init
    Boot {
        /// How often each machine is booted
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
}

/// `cargo xtask tools`
pub fn tools(workspace: &Workspace, command: &[String]) -> Result<()> {
    let tools = tools::make(workspace)?;
    let Some((program, arguments)) = command.split_first() else {
        println!("{}", tools.tree().display());
        return Ok(());
    };
    let mut command = tools.command(program)?;
    command.args(arguments);
    Err(command.exec()).with_context(|| format!("run {program}"))
}

/// `cargo xtask bench`
pub fn bench(workspace: &Workspace, what: &Bench) -> Result<()> {
    let Bench::Boot { runs, json } = *what;
    let build = machine::Build::from_env()?;
    bench::boot(workspace, &build, bench::Options { runs, json })
}
