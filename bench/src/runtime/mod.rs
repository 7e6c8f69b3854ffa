//! `cargo xtask bench runtime`: what starting a container costs, beside crun,
//! runc, youki and the floor.
//!
//! The program `runtime-bench` measures (`bench/runtime-bench`); here it is built
//! with `wherry-runtime` and started: on this host with the Debian guest's user
//! space as its root, so that crun and runc are Debian 13's whatever the host is,
//! or in the guest itself, whose cgroups have all controllers.

mod figures;
mod youki;

use crate::pressure::Pressure;
use anyhow::{Context, Result, bail, ensure};
use figures::Figures;
use machine::{Build, Guest};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use xtask::progress::Stage;
use xtask::workspace::Workspace;
use xtask::{crates, guest, process, tools};

/// In the guest everything is emulated.
const GUEST: Duration = Duration::from_secs(3600);

/// What `cargo xtask bench runtime` is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often each runtime starts a container.
    pub runs: u32,
    /// How many containers are started at once.
    pub burst: u32,
    /// Measures in the Debian guest instead of on the host.
    pub guest: bool,
    /// Prints one JSON object instead of the table.
    pub json: bool,
}

/// Builds what is not up to date, then measures.
pub fn runtime(workspace: &Workspace, options: Options) -> Result<()> {
    ensure!(options.runs > 0, "--runs 0 measures nothing");
    ensure!(options.burst > 0, "--burst 0 measures nothing");
    let pressure = Pressure::now();
    let measured = if options.guest {
        let build = {
            let _lock = workspace.lock()?;
            guest::make(workspace)?
        };
        in_guest(&build, options)?
    } else {
        let (root, programs) = {
            let _lock = workspace.lock()?;
            let tree = tools::make(workspace)?;
            (
                guest::debian(workspace, &tree)?.tree(),
                programs(workspace)?,
            )
        };
        on_host(&root, &programs, options)?
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

/// A folder with the programs that are measured.
fn programs(workspace: &Workspace) -> Result<PathBuf> {
    let names: BTreeSet<String> = ["runtime-bench", "wherry-runtime"]
        .map(str::to_owned)
        .into();
    let folder = workspace.build.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    for (name, program) in crates::build(workspace, &names)? {
        fs::copy(&program, folder.join(name))
            .with_context(|| format!("copy {}", program.display()))?;
    }
    if let Some(youki) = youki::make(workspace) {
        fs::copy(&youki, folder.join("youki"))
            .with_context(|| format!("copy {}", youki.display()))?;
    }
    Ok(folder)
}

fn on_host(root: &Path, programs: &Path, options: Options) -> Result<String> {
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "containers on this host need root: run it by sudo, or in the guest:\n  \
             cargo xtask bench runtime --guest"
        );
    }
    process::output(
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
    let stage = Stage::begin("bench", "the runtimes, in the guest");
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
