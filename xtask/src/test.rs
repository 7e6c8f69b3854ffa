//! `cargo xtask test`: everything that has to hold before a change lands, the
//! quickest to fail first.

use crate::bench::{self, PowerCut};
use crate::workspace::Workspace;
use crate::{guest, image, reproduce, skipped, test_releases, tools};
use anyhow::{Context, Result, bail};
use std::path::Path;
use std::process::Command;

/// The name of the power cuts among the tests.
const POWER_CUT: &str = "a_power_cut_at_any_moment_leaves_a_release_that_boots";

/// A test of a crate that needs the image: it runs with those on machines.
const BUILT_IMAGE: &str = "built_image::the_built_image_is_a_system_disk";

/// Which tests run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of them.
    All,
    /// Those whose name contains this.
    Named(String),
}

/// Runs tests, and tells at the end which were skipped.
pub fn test(workspace: &Workspace, selection: &Selection) -> Result<()> {
    skipped::forget(workspace)?;
    let outcome = stages(workspace, selection);
    if let Some(summary) = skipped::summary(workspace) {
        eprintln!("\n{summary}");
    }
    outcome
}

fn stages(workspace: &Workspace, selection: &Selection) -> Result<()> {
    let filter = match selection {
        Selection::All => None,
        Selection::Named(name) => Some(name.as_str()),
    };
    // This one is no test of cargo's, which would build all of them in vain.
    if filter == Some(reproduce::NAME) {
        let _lock = workspace.lock()?;
        return reproduce::test(workspace);
    }
    if filter.is_none() {
        format(workspace)?;
        lint(workspace)?;
    }
    {
        let _lock = workspace.lock()?;
        tools::make(workspace)?;
    }
    programs(workspace, filter)?;
    {
        let _lock = workspace.lock()?;
        image::make(workspace)?;
        guest::make(workspace)?;
        test_releases::make(workspace)?;
    }
    machines(workspace, filter)?;
    if filter.is_none_or(|filter| POWER_CUT.contains(filter)) {
        power_cut(workspace)?;
    }
    if filter.is_none_or(|filter| reproduce::NAME.contains(filter)) {
        let _lock = workspace.lock()?;
        reproduce::test(workspace)?;
    }
    Ok(())
}

fn format(workspace: &Workspace) -> Result<()> {
    let mut cargo = cargo(workspace, "fmt", "rustfmt")?;
    run(
        cargo.args(["--all", "--check"]),
        "the code is not formatted: cargo fmt --all",
    )
}

fn lint(workspace: &Workspace) -> Result<()> {
    let mut cargo = cargo(workspace, "clippy", "clippy")?;
    cargo.args(["--workspace", "--all-targets", "--", "-D", "warnings"]);
    run(&mut cargo, "clippy has something to say")
}

/// The tests that need no machine: pure ones, and those on real files.
fn programs(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let mut cargo = cargo(workspace, "test", "cargo")?;
    cargo.args(["--workspace", "--exclude", "tests"]);
    cargo.args(filter).args(["--", "--skip", BUILT_IMAGE]);
    run(&mut cargo, "a test failed")
}

/// The tests on the image. Each boots machines of one CPU, so as many run at a
/// time as there are CPUs.
fn machines(workspace: &Workspace, filter: Option<&str>) -> Result<()> {
    let mut cargo = cargo(workspace, "test", "cargo")?;
    cargo.args(["--package", "tests"]).args(filter);
    run(
        &mut cargo,
        "a test of the image failed; the machines' consoles are in build/console",
    )?;
    if filter.is_none_or(|filter| BUILT_IMAGE.contains(filter)) {
        let mut cargo = self::cargo(workspace, "test", "cargo")?;
        cargo.args(["--package", "system-disk", "--test", "system_disk"]);
        cargo.args([BUILT_IMAGE, "--", "--exact"]);
        run(&mut cargo, "the image is no disk that can be updated")?;
    }
    Ok(())
}

/// Fewer scenarios, runs and boots than `cargo xtask power-cut` has.
fn power_cut(workspace: &Workspace) -> Result<()> {
    eprintln!("\ntest {POWER_CUT}");
    let some = PowerCut {
        converge: 12,
        boots: 1,
        scenarios: Some(2),
        json: false,
    };
    bench::power_cut_made(workspace, some).context(POWER_CUT)?;
    eprintln!("test {POWER_CUT} ... ok");
    Ok(())
}

fn cargo(workspace: &Workspace, command: &str, component: &str) -> Result<Command> {
    let known = Command::new("cargo")
        .args([command, "--help"])
        .output()
        .context("start cargo")?;
    if !known.status.success() {
        bail!("this Rust has no cargo {command}:\n  rustup component add {component}");
    }
    let mut cargo = Command::new("cargo");
    cargo
        .arg(command)
        .current_dir(&workspace.root)
        .env("WHERRY_BUILD", &workspace.build);
    Ok(cargo)
}

fn run(command: &mut Command, otherwise: &str) -> Result<()> {
    eprintln!("\n$ {}", words(command));
    let status = command.status().context("start cargo")?;
    if !status.success() {
        bail!("{otherwise}");
    }
    Ok(())
}

fn words(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or_default();
    std::iter::once(name)
        .chain(command.get_args())
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}
