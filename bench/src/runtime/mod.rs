//! `cargo xtask bench runtime`: what starting a container costs, beside crun,
//! runc, youki and the floor.
//!
//! The program `runtime-bench` measures (`bench/runtime-bench`); here it is started:
//! on this host with the Debian guest's user
//! space as its root, so that crun and runc are Debian 13's whatever the host is,
//! or in the guest itself, whose cgroups have all controllers.

mod figures;

use crate::command;
use crate::pressure::Pressure;
use crate::progress::Stage;
use anyhow::{Context, Result, ensure};
use figures::Figures;
use machine::{Build, Guest};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// In the guest everything is emulated.
const GUEST: Duration = Duration::from_secs(3600);

/// What `cargo xtask bench runtime` is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often each runtime starts a container.
    pub runs: u32,
    /// How many containers are started at once.
    pub burst: u32,
    /// Prints one JSON object instead of the table.
    pub json: bool,
}

/// Where the runtimes are measured.
#[derive(Debug, Clone)]
pub enum Place {
    /// On this host, as root.
    Host {
        /// The user space with the other runtimes.
        root: PathBuf,
        /// The folder with `runtime-bench`, `wherry-runtime` and perhaps `youki`.
        programs: PathBuf,
    },
    /// In the Debian guest of this build, which has all programs.
    Guest(Build),
}

/// Measures.
pub fn runtime(place: &Place, options: Options) -> Result<()> {
    ensure!(options.runs > 0, "--runs 0 measures nothing");
    ensure!(options.burst > 0, "--burst 0 measures nothing");
    let pressure = Pressure::now();
    let measured = match place {
        Place::Host { root, programs } => on_host(root, programs, options)?,
        Place::Guest(build) => in_guest(build, options)?,
    };
    let figures = Figures::of(&measured, pressure.until_now())
        .with_context(|| format!("runtime-bench printed {measured}"))?;
    if options.json {
        println!("{}", serde_json::to_string_pretty(&figures.json())?);
    } else {
        print!("{}", figures.table());
    }
    Ok(())
}

fn on_host(root: &Path, programs: &Path, options: Options) -> Result<String> {
    command::output(
        Command::new(programs.join("runtime-bench"))
            .args(["measure", "--runs", &options.runs.to_string()])
            .args(["--burst", &options.burst.to_string()])
            .arg("--root")
            .arg(root)
            .arg("--programs")
            .arg(programs)
            .stdin(Stdio::null()),
    )
}

fn in_guest(build: &Build, options: Options) -> Result<String> {
    let stage = Stage::begin("bench", "the runtimes, in the guest", 1);
    let mut guest = Guest::boot(build, "bench-runtime", GUEST)?;
    let output = guest.run(
        &format!(
            "runtime-bench measure --runs {} --burst {}",
            options.runs, options.burst
        ),
        GUEST,
    )?;
    stage.end();
    ensure!(
        output.exit == 0,
        "runtime-bench ended with {} in the guest:\n{}",
        output.exit,
        output.text
    );
    let line = output.text.lines().find(|line| line.starts_with('{'));
    Ok(line.unwrap_or_default().to_owned())
}
