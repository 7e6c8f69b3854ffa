//! What can be typed after `cargo xtask`.

use anyhow::{Context, Result, ensure};
use clap::{Parser, Subcommand, ValueEnum};
use machine::Guest;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::time::Duration;
use xtask::workspace::Workspace;
use xtask::{disk, guest, image, programs, release, run, tools};

/// How long a command in the Debian guest may take.
const GUEST: Duration = Duration::from_secs(600);

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
    /// Makes the disk image and the artifacts of a release
    Image {
        /// The disk image's format
        #[arg(long, value_enum, default_value_t = Format::Raw)]
        format: Format,
        /// Where to put everything; without it, build/output
        #[arg(long, value_name = "FOLDER")]
        output: Option<PathBuf>,
    },
    /// Builds a release and publishes it in a folder for any web server
    Release(release::Options),
    /// Makes the Debian guest in which the runtime is tested with docker,
    /// containerd and podman, or runs a shell command in it
    Guest {
        /// What `sh` is given; without it the guest is only made
        command: Option<String>,
    },
    /// Builds what is not up to date and boots it in QEMU, on this terminal
    Run(run::Options),
    /// Checks and tests everything, the image in QEMU included
    Test {
        /// Runs only the tests whose name contains this
        name: Option<String>,
    },
    /// Cuts the power at every moment of an update, as a machine in QEMU wrote it
    PowerCut {
        /// On how many different contents the updater is run again, in each scenario
        #[arg(long, default_value_t = 60)]
        converge: usize,
        /// How many of them are booted, in each scenario
        #[arg(long, default_value_t = 3)]
        boots: usize,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Measures what booting or starting a container costs
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}

/// A disk image's format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// Block for block as on a disk
    Raw,
    /// QEMU's own, small
    Qcow2,
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
    /// What an update fetches and how fast it is, beside RAUC, zchunk, xdelta3
    /// and bsdiff
    Update {
        /// How often each update is applied for its time
        #[arg(long, default_value_t = 5)]
        runs: u32,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
    /// Starting containers, beside crun, runc, youki and the least there can be
    Runtime {
        /// How often each runtime starts a container
        #[arg(long, default_value_t = 60)]
        runs: u32,
        /// How many containers are started at once
        #[arg(long, default_value_t = 500)]
        burst: u32,
        /// Measures in the Debian guest, where every limit works
        #[arg(long)]
        guest: bool,
        /// Prints one JSON object instead of a table
        #[arg(long)]
        json: bool,
    },
}

/// `cargo xtask tools`
pub fn tools(workspace: &Workspace, command: &[String]) -> Result<()> {
    let tools = {
        let _lock = workspace.lock()?;
        tools::make(workspace)?
    };
    let Some((program, arguments)) = command.split_first() else {
        println!("{}", tools.tree().display());
        return Ok(());
    };
    let mut command = tools.command(program)?;
    command.args(arguments);
    Err(command.exec()).with_context(|| format!("run {program}"))
}

/// `cargo xtask image`
pub fn image(workspace: &Workspace, format: Format, output: Option<PathBuf>) -> Result<()> {
    let _lock = workspace.lock()?;
    let build = image::make(workspace)?;
    let output = output.unwrap_or_else(|| workspace.build.join("output"));
    fs::create_dir_all(&output).with_context(|| format!("create {}", output.display()))?;
    let version = workspace.version();
    let raw = build.disk_image()?;
    let disk = match format {
        Format::Raw => {
            let disk = output.join(format!("wherry_{version}.raw"));
            machine::copy_sparse(&raw, &disk, 0)?;
            disk
        }
        Format::Qcow2 => {
            let disk = output.join(format!("wherry_{version}.qcow2"));
            disk::to_qcow2(&build.tools()?, &raw, &disk)?;
            disk
        }
    };
    println!("{}", disk.display());
    for (from, name) in image::artifacts(&build, version)? {
        let to = output.join(name);
        fs::copy(&from, &to).with_context(|| format!("write {}", to.display()))?;
        println!("{}", to.display());
    }
    Ok(())
}

/// `cargo xtask guest`
pub fn guest(workspace: &Workspace, command: Option<&str>) -> Result<()> {
    let build = {
        let _lock = workspace.lock()?;
        guest::make(workspace)?
    };
    let Some(command) = command else {
        println!("{}", build.guest_disk()?.display());
        return Ok(());
    };
    let mut guest = Guest::boot(&build, "guest", GUEST)?;
    let output = guest.run(command, GUEST)?;
    print!("{}", output.text);
    ensure!(output.exit == 0, "it ended with status {}", output.exit);
    Ok(())
}

/// `cargo xtask bench`
pub fn bench(workspace: &Workspace, what: &Bench) -> Result<()> {
    let mut arguments: Vec<String> = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    let json = match what {
        Bench::Boot { runs, json } => {
            add(&["boot", "--runs", &runs.to_string()]);
            json
        }
        Bench::Update { runs, json } => {
            add(&["update", "--runs", &runs.to_string()]);
            json
        }
        Bench::Runtime {
            runs,
            burst,
            guest,
            json,
        } => {
            add(&["runtime", "--runs", &runs.to_string()]);
            add(&["--burst", &burst.to_string()]);
            if *guest {
                add(&["--guest"]);
            }
            json
        }
    };
    if *json {
        add(&["--json"]);
    }
    programs::run(workspace, "bench", arguments)
}

/// `cargo xtask power-cut`
pub fn power_cut(workspace: &Workspace, converge: usize, boots: usize, json: bool) -> Result<()> {
    let (converge, boots) = (converge.to_string(), boots.to_string());
    let arguments = [
        "power-cut",
        "--converge",
        &converge,
        "--boots",
        &boots,
        "--json",
    ];
    let arguments = &arguments[..arguments.len() - usize::from(!json)];
    programs::run(workspace, "bench", arguments)
}
