//! `bench`: what booting, updating and starting containers cost, and what a power
//! cut leaves of an update. `cargo xtask bench` and `power-cut` run it.

mod boot;
mod command;
mod power_cut;
mod pressure;
mod progress;
mod runtime;
mod update;

use anyhow::{Result, bail};
use clap::{Parser, Subcommand};
use machine::Build;
use runtime::Place;
use std::path::PathBuf;
use std::process::ExitCode;

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
        /// The folder that the build made
        #[arg(long, value_name = "FOLDER")]
        build: PathBuf,
        /// The trivial init (`bench/floor`), static
        #[arg(long, value_name = "PROGRAM")]
        floor: PathBuf,
        /// How often each machine is booted
        #[arg(long)]
        runs: u32,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// What an update fetches and how fast it is, beside other programs
    Update {
        /// The folder with the releases, each in a folder of its version's name
        #[arg(long, value_name = "FOLDER")]
        folder: PathBuf,
        /// The version that machines have
        #[arg(long, value_name = "VERSION")]
        old: String,
        /// A version that they get, and what differs; several
        #[arg(long = "pair", value_name = "VERSION=NAME", required = true)]
        pairs: Vec<update::Following>,
        /// The updater
        #[arg(long, value_name = "PROGRAM")]
        updater: PathBuf,
        /// The tools tree of the programs to compare with
        #[arg(long, value_name = "FOLDER")]
        others: PathBuf,
        /// How often each update is applied for its time
        #[arg(long)]
        runs: u32,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Starting containers, beside crun, runc, youki and the least there can be
    Runtime {
        /// Measures on this host: the user space with the other runtimes
        #[arg(long, value_name = "FOLDER", requires = "programs")]
        root: Option<PathBuf>,
        /// Measures on this host: the folder with runtime-bench and ours
        #[arg(long, value_name = "FOLDER", requires = "root")]
        programs: Option<PathBuf>,
        /// Measures in the Debian guest of this build
        #[arg(long, value_name = "FOLDER", conflicts_with = "root")]
        guest: Option<PathBuf>,
        /// How often each runtime starts a container
        #[arg(long)]
        runs: u32,
        /// How many containers are started at once
        #[arg(long)]
        burst: u32,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Cuts the power at every moment of an update
    PowerCut {
        /// The folder that the build made, with its test releases
        #[arg(long, value_name = "FOLDER")]
        build: PathBuf,
        /// The updater that runs again
        #[arg(long, value_name = "PROGRAM")]
        updater: PathBuf,
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
    match arguments.what {
        What::Boot {
            build,
            floor,
            runs,
            json,
        } => boot::boot(&Build::at(build), &floor, boot::Options { runs, json }),
        What::Update {
            folder,
            old,
            pairs,
            updater,
            others,
            runs,
            json,
        } => update::update(update::Options {
            folder,
            old,
            pairs,
            updater,
            others,
            runs,
            json,
        }),
        What::Runtime {
            root,
            programs,
            guest,
            runs,
            burst,
            json,
        } => {
            let place = match (guest, root.zip(programs)) {
                (Some(build), _) => Place::Guest(Build::at(build)),
                (None, Some((root, programs))) => Place::Host { root, programs },
                (None, None) => bail!("name --guest, or --root and --programs"),
            };
            runtime::runtime(&place, runtime::Options { runs, burst, json })
        }
        What::PowerCut {
            build,
            updater,
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
            power_cut::power_cut(&Build::at(build), &updater, options)
        }
    }
}
