//! `cargo xtask bench update`: what an update costs, beside what it must cost
//! and what other programs take for the same one.
//!
//! - [`pairs`]: the releases that are compared;
//! - [`blocks`]: what has to be fetched at least;
//! - [`others`]: RAUC, zchunk, xdelta3 and bsdiff on the same images;
//! - [`apply`]: the updater at work, and `dd` of the same bytes;
//! - [`figures`]: medians, targets, the table and the JSON object.

pub mod apply;
pub mod blocks;
pub mod figures;
pub mod others;
pub mod pairs;

use crate::pressure::Pressure;
use anyhow::{Context, Result, ensure};
use apply::Site;
use figures::{Figures, Row};
use others::Programs;
use std::fs;
use xtask::progress::Stage;
use xtask::workspace::Workspace;
use xtask::{image, rootfs};

/// What `cargo xtask bench update` is asked for.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// How often each update is applied for its time.
    pub runs: u32,
    /// Prints one JSON object instead of the table.
    pub json: bool,
}

/// Builds what is not up to date, then measures.
pub fn update(workspace: &Workspace, options: Options) -> Result<()> {
    ensure!(options.runs > 0, "--runs 0 measures nothing");
    let _lock = workspace.lock()?;
    let programs = Programs::make(workspace)?;
    let folder = workspace.build.join("bench-update");
    image::make(workspace)?;
    fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let updater = folder.join("updater-program");
    rootfs::copy_updater(workspace, &updater)?;
    let pairs = pairs::make(workspace, &folder)?;
    let site = Site::make(updater, &folder, &pairs)?;
    let mut stage = Stage::begin("bench", "updates, and what others fetch for them");
    stage.expect_more(pairs.len() as u64 * (u64::from(options.runs) + 1));
    let pressure = Pressure::now();
    let mut rows = Vec::new();
    for pair in &pairs {
        let sizes = blocks::compare(&pair.old, &pair.new)?;
        let (mut applied, mut dd) = (Vec::new(), Vec::new());
        // In turn, so that a host that gets busier slows both.
        for _ in 0..options.runs {
            dd.push(site.dd(pair)?);
            applied.push(site.apply(pair)?);
            stage.step(pair.name);
        }
        rows.push(Row {
            name: pair.name,
            sizes,
            others: programs.measure(&pair.old, &pair.new, sizes)?,
            applied,
            dd,
        });
        stage.step(pair.name);
    }
    stage.end();
    let figures = Figures {
        rows,
        pressure: pressure.until_now(),
    };
    if options.json {
        println!("{}", figures.json());
    } else {
        print!("{}", figures.table());
    }
    Ok(())
}
