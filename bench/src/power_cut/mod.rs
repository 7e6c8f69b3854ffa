//! `bench power-cut`: what a power cut at any moment of an update leaves
//! behind.
//!
//! - [`scenario`]: a real machine installs, blesses and rolls back, while QEMU
//!   logs each write of its disk;
//! - [`log`]: what was written and flushed;
//! - [`medium`]: a disk's content, changed write by write;
//! - [`cuts`]: every content that a cut can leave;
//! - [`check`]: what a machine with such a disk boots, followed from the partition
//!   table ([`table`]) by way of the loader's choice ([`loader`]) to the last block
//!   of the root ([`verity`]);
//! - [`converge`]: the updater, run again on such a disk;
//! - [`figures`]: what came out.

pub mod check;
pub mod converge;
pub mod cuts;
pub mod figures;
pub mod loader;
pub mod log;
pub mod medium;
pub mod scenario;
pub mod table;
pub mod verity;

use crate::progress::Stage;
use anyhow::{Context, Result, ensure};
use check::{Checker, Known, Standing};
use converge::Updater;
use cuts::{Kind, Point};
use figures::Figures;
use machine::Build;
use medium::Medium;
use scenario::{Recorded, SCENARIOS, Site};
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// What `cargo xtask power-cut` is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// On how many of the contents that differ the updater is run again, at most,
    /// in each scenario.
    pub converge: usize,
    /// How many of them boot in QEMU, in each scenario.
    pub boots: usize,
    /// How many scenarios are played, in their order.
    pub scenarios: usize,
    /// Prints one JSON object instead of the table.
    pub json: bool,
}

/// Plays the scenarios with the test releases of `build`, and looks at every point.
/// `updater` is the program that runs again.
pub fn power_cut(build: &Build, updater: &Path, options: Options) -> Result<()> {
    let figures = explore(build, updater, options)?;
    if options.json {
        println!("{}", figures.json());
    } else {
        print!("{}", figures.table());
    }
    ensure!(
        figures.bricked == 0 && figures.not_converged == 0,
        "{} contents boot nothing that is whole, on {} the updater does not end where it should",
        figures.bricked,
        figures.not_converged
    );
    Ok(())
}

/// Where the releases are that the scenarios install, below a build's folder.
fn releases(build: &Build) -> PathBuf {
    build.directory().join("test-releases")
}

fn explore(build: &Build, updater: &Path, options: Options) -> Result<Figures> {
    let scratch = TempDir::with_prefix_in("power-cut-", build.directory())
        .context("make a scratch folder")?;
    let releases = releases(build);
    let site = Site::new(&releases, build, scratch.path())?;
    let mut updater = Updater::new(&releases, updater, scratch.path());
    let mut figures = Figures::default();
    let disk = scratch.path().join("cut.raw");
    for scenario in SCENARIOS.iter().take(options.scenarios) {
        let stage = Stage::begin("power-cut", scenario.name, 1);
        let recorded = site.play(*scenario)?;
        let found = every_point(&releases, &recorded, &mut figures)?;
        let (again, boots) = (
            spread(&found, options.converge),
            spread(&found, options.boots),
        );
        let wanted: BTreeSet<usize> = again.iter().chain(&boots).copied().collect();
        let mut failed: Result<()> = Ok(());
        replay(&recorded, &mut |number, medium, point| {
            if failed.is_err() || !wanted.contains(&number) {
                return;
            }
            failed = (|| {
                let standing = &found[&number];
                if boots.contains(&number) {
                    medium.save(&disk)?;
                    let line = site.boot(&disk, "sample")?;
                    if !line.contains(&root_hash(&releases, &standing.boots)?) {
                        let why = format!("{} should have booted: {line}", standing.boots);
                        figures.bricked(scenario.name, point, &why);
                    }
                    figures.booted_samples += 1;
                }
                if again.contains(&number) {
                    medium.save(&disk)?;
                    let by_firmware = point.epoch == 0;
                    if let Err(why) = updater.converges(*scenario, standing, by_firmware, &disk)? {
                        figures.not_converged(scenario.name, point, &why);
                    }
                    figures.converged += 1;
                }
                Ok(())
            })();
        })?;
        failed?;
        stage.end();
    }
    Ok(figures)
}

/// Looks at every point, and returns what boots on each content that differs from
/// those before, by the points' numbers.
fn every_point(
    releases: &Path,
    recorded: &Recorded,
    figures: &mut Figures,
) -> Result<BTreeMap<usize, Standing>> {
    let scenario = recorded.scenario;
    let mut medium = Medium::load(&recorded.before)?;
    let mut checker = Checker::new(known(releases)?, Vec::new(), &mut medium)?;
    let state = state_start(&medium)?;
    let (mut different, mut seen) = (BTreeMap::new(), HashSet::new());
    let mut number = 0;
    cuts::explore(
        &mut medium,
        &recorded.requests,
        |range| range.start < state,
        &mut |medium, point| {
            match point.kind {
                Kind::Cut => figures.points += 1,
                Kind::Reordering => figures.reorderings += 1,
            }
            let found = checker.check(medium).and_then(|standing| {
                let gone = |version: &&&str| !standing.whole.iter().any(|w| w == **version);
                // Until the first flush only firmware and boot loader have written,
                // and their renaming is not atomic: there it is enough that
                // something whole boots.
                match scenario.stay.iter().find(gone) {
                    Some(version) if point.epoch > 0 => {
                        Err(format!("{version} is not whole any more"))
                    }
                    _ => Ok(standing),
                }
            });
            match found {
                Err(why) => figures.bricked(scenario.name, point, &why),
                Ok(standing) => {
                    if seen.insert(medium.fingerprints_but(state)) {
                        different.insert(number, standing);
                    }
                }
            }
            number += 1;
        },
    );
    figures.contents += seen.len();
    Ok(different)
}

/// Plays a scenario's writes once more, in the same order, with the points'
/// numbers.
fn replay(recorded: &Recorded, visit: &mut dyn FnMut(usize, &Medium, &Point)) -> Result<()> {
    let mut medium = Medium::load(&recorded.before)?;
    let state = state_start(&medium)?;
    let mut number = 0;
    cuts::explore(
        &mut medium,
        &recorded.requests,
        |range| range.start < state,
        &mut |medium, point| {
            visit(number, medium, point);
            number += 1;
        },
    );
    Ok(())
}

/// The releases of all scenarios.
fn known(releases: &Path) -> Result<Vec<Known>> {
    ["1.0", "1.2", "2.0"]
        .into_iter()
        .map(|version| {
            let build = Build::at(releases.join(version));
            Known::load(version, &build.uki()?)
        })
        .collect()
}

fn state_start(medium: &Medium) -> Result<u64> {
    let partitions = table::partitions(medium).map_err(anyhow::Error::msg)?;
    let state = partitions
        .values()
        .find(|partition| partition.name == "state")
        .context("no state partition")?;
    Ok(table::range(state).start)
}

/// At most `count` of their numbers, from the first to the last.
fn spread(found: &BTreeMap<usize, Standing>, count: usize) -> BTreeSet<usize> {
    let step = found.len().div_ceil(count.max(1)).max(1);
    let first = (step / 2).min(found.len().saturating_sub(1));
    let numbers = found.keys().copied().skip(first).step_by(step);
    numbers.take(count).collect()
}

fn root_hash(releases: &Path, version: &str) -> Result<String> {
    let build = Build::at(releases.join(version));
    let line = build.command_line()?;
    line.split_whitespace()
        .find_map(|word| word.strip_prefix("roothash="))
        .map(str::to_owned)
        .context("no roothash= on the command line")
}
