//! `bench`: what booting, updating and starting containers cost, and what a power
//! cut leaves of an update. `cargo xtask bench` and `power-cut` run it.

mod boot;
mod power_cut;
mod pressure;
mod runtime;
mod update;

use anyhow::Result;
use clap::{Parser, Subcommand};
use std::process::ExitCode;
use xtask::workspace::Workspace;

/// Measures Wherry.
#[derive(Debug, Parser)]
#[command(arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Boot time, memory and size, beside the same kernel with a trivial init
    Boot {
        /// How often each machine is booted
        #[arg(long)]
        runs: u32,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// What an update fetches and how fast it is, beside other programs
    Update {
        /// How often each update is applied for its time
        #[arg(long)]
        runs: u32,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Starting containers, beside crun, runc, youki and the least there can be
    Runtime {
        /// How often each runtime starts a container
        #[arg(long)]
        runs: u32,
        /// How many containers are started at once
        #[arg(long)]
        burst: u32,
        /// Measures in the Debian guest
        #[arg(long)]
        guest: bool,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Cuts the power at every moment of an update
    PowerCut {
        /// On how many different contents the updater is run again, in each scenario
        #[arg(long)]
        converge: usize,
        /// How many of them are booted, in each scenario
        #[arg(long)]
        boots: usize,
        /// How many scenarios are played; without it, all
        #[arg(long)]
        scenarios: Option<usize>,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    match measure(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    match arguments.what {
        What::Boot { runs, json } => boot::boot(&workspace, boot::Options { runs, json }),
        What::Update { runs, json } => update::update(&workspace, update::Options { runs, json }),
        What::Runtime {
            runs,
            burst,
            guest,
            json,
        } => {
            let options = runtime::Options {
                runs,
                burst,
                guest,
                json,
            };
            runtime::runtime(&workspace, options)
        }
        What::PowerCut {
            converge,
            boots,
            scenarios,
            json,
        } => {
            let options = power_cut::Options {
                converge,
                boots,
                scenarios: scenarios.unwrap_or(usize::MAX),
                json,
            };
            power_cut::power_cut(&workspace, options)
        }
    }
}
