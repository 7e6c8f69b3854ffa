//! Times OCI runtimes side by side, and prints one JSON object with all samples.
//!
//! Runs as root, in the mount namespace that it makes itself (`--root`) or in a
//! machine that is all its own. Everything that is compared is measured in turn,
//! so that a host that gets busier slows all alike:
//!
//! - [`floor`]: clone3 with a container's namespaces and the program's execution,
//!   nothing else: what the kernel takes;
//! - [`in_process`]: the library as PID 1 calls it;
//! - [`command`]: a runtime's command line.
//!
//! [`bundle`] makes the container that each of them starts; [`single`], [`burst`]
//! and [`resident`] are the measurements.

mod bundle;
mod burst;
mod command;
mod floor;
mod in_process;
mod place;
mod resident;
mod single;
mod spawn;
mod sys;

use anyhow::{Context, Result};
use bundle::Bundles;
use clap::{Parser, Subcommand};
use command::Runtime;
use in_process::Library;
use serde_json::json;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Measures the runtimes that are there
    Measure(Options),
    /// Runs a command and prints the most memory that one of its processes had
    Spawn { command: Vec<OsString> },
    /// Starts one container by the library, for its peak memory
    Once { bundles: PathBuf },
}

/// What is measured, and how often.
#[derive(Debug, clap::Args)]
struct Options {
    /// How often each runtime starts a container
    #[arg(long, default_value_t = 60)]
    runs: usize,
    /// How many containers are started at once
    #[arg(long, default_value_t = 500)]
    burst: usize,
    /// A folder to make this process's root first, in a mount namespace
    #[arg(long)]
    root: Option<PathBuf>,
    /// A folder that is then `/usr/local/bin`
    #[arg(long)]
    programs: Option<PathBuf>,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().what {
        What::Measure(options) => measure(&options),
        What::Spawn { command } => spawn::run(&command),
        What::Once { bundles } => in_process::once(&bundles),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("runtime-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<()> {
    if let Some(root) = &options.root {
        place::enter(root, options.programs.as_deref())?;
    }
    let controllers = place::own_cgroups()?;
    let bundles = Bundles::make(&controllers).context("make the containers to start")?;
    let runtimes = Runtime::found();
    let library = Library::new(&bundles)?;
    let (start_ms, failures) = single::starts(&bundles, &library, &runtimes, options.runs)?;
    let lifecycle_ms = single::lifecycles(&bundles, &runtimes, options.runs)?;
    let exec_ms = single::execs(&bundles, &library, &runtimes, options.runs)?;
    let peak_rss_kib = single::peaks(&bundles, &runtimes)?;
    let burst = burst::all(&bundles, &library, &runtimes, options.burst)?;
    let resident = resident::all(&bundles, &library, &runtimes)?;
    place::remove_cgroups();
    let result = json!({
        "controllers": controllers,
        "versions": runtimes.iter().map(|r| (r.name.clone(), r.version())).collect::<std::collections::BTreeMap<_, _>>(),
        "start_ms": start_ms,
        "failures": failures,
        "lifecycle_ms": lifecycle_ms,
        "exec_ms": exec_ms,
        "peak_rss_kib": peak_rss_kib,
        "burst": burst,
        "resident": resident,
    });
    println!("{result}");
    Ok(())
}
