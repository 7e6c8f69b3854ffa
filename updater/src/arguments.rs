//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use release::{RootHash, Version};

/// Wherry's updater.
#[derive(Debug, Parser)]
#[command(name = "updater", version)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run as the service: check, install, bless, restart
    Run(Run),
    /// Install a release on a disk or a disk image, once
    Install(Install),
    /// Bless the running release of a disk or a disk image
    Bless(On),
    /// Boot the other release of a disk or a disk image next
    Rollback(On),
    /// Show what is on a disk or a disk image
    Look(On),
}

/// Where the service finds things; the defaults are those of its container.
#[derive(Debug, Args)]
pub struct Run {
    /// The disk; without it, the one that was booted
    #[arg(long, value_name = "FILE")]
    pub disk: Option<PathBuf>,
    /// PID 1's control socket
    #[arg(long, value_name = "PATH", default_value = control::SOCKET)]
    pub pid1: PathBuf,
    /// The folder of the socket, the marker and the lock files
    #[arg(long, value_name = "DIR", default_value = "/run/wherry/updater")]
    pub run: PathBuf,
    /// The folder of record and metadata
    #[arg(long, value_name = "DIR", default_value = "/state/updater")]
    pub state: PathBuf,
    /// The folder of the machine's update.toml and update-root.json
    #[arg(long, value_name = "DIR", default_value = "/state/config/updater")]
    pub config: PathBuf,
    /// The folder of the image's update.toml and update-root.json
    #[arg(long, value_name = "DIR", default_value = "/usr/lib/wherry")]
    pub image: PathBuf,
    /// The folder of the kernel's records of panics
    #[arg(long, value_name = "DIR", default_value = "/run/pstore")]
    pub pstore: PathBuf,
}

/// Which disk, and what of it counts as running.
#[derive(Debug, Args)]
pub struct On {
    /// The disk: a device or an image of a whole disk
    #[arg(long, value_name = "FILE")]
    pub disk: PathBuf,
    /// The root hash of the release that counts as running
    #[arg(long, value_name = "ROOTHASH")]
    pub booted: Option<RootHash>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Where a release comes from.
#[derive(Debug, Args)]
pub struct Install {
    #[command(flatten)]
    pub on: On,
    /// A repository; may be given several times, the preferred one first
    #[arg(long, value_name = "ADDRESS", required = true)]
    pub repository: Vec<String>,
    /// The trust anchor: root metadata of the repository
    #[arg(long, value_name = "FILE")]
    pub trust: PathBuf,
    /// The channel
    #[arg(long, value_name = "NAME", default_value = "stable")]
    pub channel: String,
    /// The folder where metadata is kept
    #[arg(long, value_name = "DIR")]
    pub state: PathBuf,
    /// Which release; without it, the newest
    #[arg(long, value_name = "VERSION")]
    pub version: Option<Version>,
    /// Allow a release that is older than the running one
    #[arg(long)]
    pub allow_downgrade: bool,
    /// Stop before the release gets a boot entry
    #[arg(long)]
    pub stage: bool,
    /// At most so many bytes a second
    #[arg(long, value_name = "BYTES")]
    pub rate_limit: Option<u64>,
    /// Requests at the same time
    #[arg(long, value_name = "NUMBER")]
    pub connections: Option<usize>,
    /// A proxy for all requests
    #[arg(long, value_name = "ADDRESS")]
    pub proxy: Option<String>,
}
