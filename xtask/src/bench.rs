//! `cargo xtask bench` and `power-cut`: builds what is measured, then runs the
//! program `bench` on it.

use crate::crates::{self, Profile};
use crate::workspace::Workspace;
use crate::{guest, image, pairs, programs, rootfs, test_releases, tools, youki};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::PathBuf;
use std::process::Command;

/// `cargo xtask bench boot`
pub fn boot(workspace: &Workspace, runs: u32, json: bool) -> Result<()> {
    ensure!(runs > 0, "--runs 0 measures nothing");
    let mut command = {
        let _lock = workspace.lock()?;
        let image = image::make(workspace)?;
        let floor = crates::build(
            workspace,
            &["floor".to_owned()].into(),
            Profile::Release,
            &[],
        )?;
        let mut command = bench(workspace, "boot", json)?;
        command
            .arg("--build")
            .arg(image.folder())
            .arg("--floor")
            .arg(&floor["floor"])
            .args(["--runs", &runs.to_string()]);
        command
    };
    programs::run(&mut command)
}

/// `cargo xtask bench update`
pub fn update(workspace: &Workspace, runs: u32, json: bool) -> Result<()> {
    ensure!(runs > 0, "--runs 0 measures nothing");
    let _lock = workspace.lock()?;
    let about = "fetching the programs to compare with (once, about a minute)";
    let recipe = workspace.root.join("bench/other-updaters");
    let others = tools::tree(workspace, &recipe, about)?;
    let folder = workspace.build.join("bench-update");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    image::make(workspace)?;
    let updater = folder.join("updater-program");
    rootfs::copy_updater(workspace, &updater)?;
    let pairs = pairs::make(workspace, &folder)?;
    let mut command = bench(workspace, "update", json)?;
    command
        .arg("--folder")
        .arg(&folder)
        .args(["--old", pairs::OLD])
        .arg("--updater")
        .arg(&updater)
        .arg("--others")
        .arg(others.tree())
        .args(["--runs", &runs.to_string()]);
    for pair in pairs {
        command.args(["--pair", &format!("{}={}", pair.version, pair.name)]);
    }
    programs::run(&mut command)
}

/// `cargo xtask bench runtime`
pub fn runtime(
    workspace: &Workspace,
    runs: u32,
    burst: u32,
    in_guest: bool,
    json: bool,
) -> Result<()> {
    ensure!(runs > 0, "--runs 0 measures nothing");
    ensure!(burst > 0, "--burst 0 measures nothing");
    if !in_guest && !nix::unistd::geteuid().is_root() {
        bail!(
            "containers on this host need root: run it by sudo, or in the guest:\n  \
             cargo xtask bench runtime --guest"
        );
    }
    let mut command = {
        let _lock = workspace.lock()?;
        let mut command = bench(workspace, "runtime", json)?;
        if in_guest {
            guest::make_to_measure(workspace)?;
            command.arg("--guest").arg(&workspace.build);
        } else {
            let tree = tools::make(workspace)?;
            let guest = guest::debian(workspace, &tree)?;
            command.arg("--root").arg(guest.tree());
            command.arg("--programs").arg(runtimes(workspace)?);
        }
        command
            .args(["--runs", &runs.to_string()])
            .args(["--burst", &burst.to_string()]);
        command
    };
    programs::run(&mut command)
}

/// How much of it `cargo xtask power-cut` tries.
#[derive(Debug, Clone, Copy)]
pub struct PowerCut {
    /// On how many contents the updater is run again, in each scenario.
    pub converge: usize,
    /// How many of them are booted.
    pub boots: usize,
    /// How many scenarios are played; without it, all.
    pub scenarios: Option<usize>,
    /// Prints one JSON object instead of a table.
    pub json: bool,
}

impl Default for PowerCut {
    fn default() -> Self {
        Self {
            converge: 60,
            boots: 3,
            scenarios: None,
            json: false,
        }
    }
}

/// `cargo xtask power-cut`
pub fn power_cut(workspace: &Workspace, options: PowerCut) -> Result<()> {
    {
        let _lock = workspace.lock()?;
        image::make(workspace)?;
        test_releases::make(workspace)?;
    }
    power_cut_made(workspace, options)
}

/// The same where image and test releases were made just before.
pub fn power_cut_made(workspace: &Workspace, options: PowerCut) -> Result<()> {
    let mut command = {
        let _lock = workspace.lock()?;
        let updater = workspace.build.join("power-cut-updater");
        rootfs::copy_updater(workspace, &updater)?;
        let mut command = bench(workspace, "power-cut", options.json)?;
        command
            .arg("--build")
            .arg(&workspace.build)
            .arg("--updater")
            .arg(&updater)
            .args(["--converge", &options.converge.to_string()])
            .args(["--boots", &options.boots.to_string()]);
        if let Some(scenarios) = options.scenarios {
            command.args(["--scenarios", &scenarios.to_string()]);
        }
        command
    };
    programs::run(&mut command)
}

fn bench(workspace: &Workspace, what: &str, json: bool) -> Result<Command> {
    let mut command = programs::command(workspace, "bench")?;
    command.arg(what);
    if json {
        command.arg("--json");
    }
    Ok(command)
}

/// A folder with the programs that `bench runtime` measures on this host.
fn runtimes(workspace: &Workspace) -> Result<PathBuf> {
    let names = ["runtime-bench", "wherry-runtime"].map(str::to_owned);
    let folder = workspace.build.join("bench");
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let mut programs = crates::build(workspace, &names.into(), Profile::Release, &[])?;
    if let Some(youki) = youki::make(workspace) {
        programs.insert("youki".to_owned(), youki);
    }
    for (name, program) in programs {
        fs::copy(&program, folder.join(name))
            .with_context(|| format!("copy {}", program.display()))?;
    }
    Ok(folder)
}
