//! `bench boot`: what booting Wherry costs, beside the floor.
//!
//! One run boots three machines in turn, all of one QEMU with the same devices:
//! the floor (our kernel, a verified root, a PID 1 that prints and stops), Wherry
//! started directly, and Wherry through firmware and boot loader. Runs are
//! interleaved, so that a host that gets busier slows all three. Times are those
//! of the fastest run, because other load only ever adds to them; memory
//! is the median. The disk has been booted before: a first boot grows the state
//! partition, and is shown beside.
//!
//! - [`floor`]: makes the floor's disk;
//! - [`run`]: boots a machine and reads its figures off the console;
//! - [`figures`]: medians, targets, the table and the JSON object.

mod figures;
mod floor;
mod run;

use crate::pressure::Pressure;
use crate::progress::Stage;
use anyhow::{Context, Result, ensure};
use figures::{Figures, Sizes};
use floor::Floor;
use machine::Build;
use run::Installed;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

/// What `cargo xtask bench boot` is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often each machine is booted.
    pub runs: u32,
    /// Prints one JSON object instead of the table.
    pub json: bool,
}

/// Measures the image of `build`; the floor's disk gets `program` as its PID 1.
pub fn boot(build: &Build, program: &Path, options: Options) -> Result<()> {
    ensure!(options.runs > 0, "--runs 0 measures nothing");
    let floor = Floor::make(build, program)?;
    let mut stage = Stage::begin(
        "bench",
        "the floor, Wherry, and Wherry through its firmware",
        u64::from(options.runs) * 3 + 1,
    );
    let scratch = TempDir::with_prefix("wherry-bench-").context("make a scratch folder")?;
    let installed = Installed::make(build, scratch.path(), "disk")?;
    stage.step("first boot");
    let pressure = Pressure::now();
    let mut runs = Vec::new();
    for _ in 0..options.runs {
        let floor = run::floor(build, &floor)?;
        stage.step("floor");
        let direct = installed.direct(build)?;
        stage.step("direct");
        let firmware = installed.firmware(build)?;
        stage.step("firmware");
        runs.push(figures::Run {
            floor,
            direct,
            firmware,
        });
    }
    stage.end();
    let sizes = Sizes {
        uki: size(&build.uki()?)?,
        root: size(&build.root()?)?,
        hash_tree: size(&build.hash_tree()?)?,
    };
    let figures = Figures::of(&runs, installed.first, pressure.until_now(), sizes);
    if options.json {
        println!("{}", serde_json::to_string_pretty(&figures.json())?);
    } else {
        print!("{}", figures.table());
    }
    Ok(())
}

fn size(path: &Path) -> Result<u64> {
    let metadata = fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
    Ok(metadata.len())
}
