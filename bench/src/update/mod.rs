//! `cargo xtask bench update`: what an update costs, beside what it must cost
//! and what other programs take for the same one.
//!
//! - [`blocks`]: what has to be fetched at least;
//! - [`others`]: RAUC, zchunk, xdelta3 and bsdiff on the same images;
//! - [`apply`]: the updater at work, and `dd` of the same bytes;
//! - [`figures`]: medians, targets, the table and the JSON object.

pub mod apply;
pub mod blocks;
pub mod figures;
pub mod others;

use crate::pressure::Pressure;
use crate::progress::Stage;
use anyhow::{Result, ensure};
use apply::Site;
use figures::{Figures, Row};
use machine::{Build, Tools};
use others::Programs;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// What `cargo xtask bench update` is asked for.
#[derive(Debug, Clone)]
pub struct Options {
    /// The folder with the releases, each in a folder of its version's name; the
    /// repository and the disks are put there too.
    pub folder: PathBuf,
    /// The version that machines have.
    pub old: String,
    /// What they get.
    pub pairs: Vec<Following>,
    /// The updater.
    pub updater: PathBuf,
    /// The tools tree of the programs to compare with (`bench/other-updaters`).
    pub others: PathBuf,
    /// How often each update is applied for its time.
    pub runs: u32,
    /// Prints one JSON object instead of the table.
    pub json: bool,
}

/// A release that follows, and how it differs: `1.1=kernel-only`.
#[derive(Debug, Clone)]
pub struct Following {
    version: String,
    name: String,
}

impl FromStr for Following {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (version, name) = text.split_once('=').ok_or("VERSION=NAME is expected")?;
        Ok(Self {
            version: version.to_owned(),
            name: name.to_owned(),
        })
    }
}

/// An update.
pub struct Pair {
    /// Its name in the table and the JSON object.
    pub name: String,
    /// The version that machines get.
    pub version: String,
    /// The release that machines have.
    pub old: Build,
    /// The one that they get.
    pub new: Build,
}

/// Measures.
pub fn update(options: Options) -> Result<()> {
    ensure!(options.runs > 0, "--runs 0 measures nothing");
    let folder: &Path = &options.folder;
    let programs = Programs::of(Tools::at(&options.others));
    let old = Build::at(folder.join(&options.old));
    let pairs: Vec<Pair> = options
        .pairs
        .into_iter()
        .map(|following| Pair {
            old: old.clone(),
            new: Build::at(folder.join(&following.version)),
            version: following.version,
            name: following.name,
        })
        .collect();
    let site = Site::make(options.updater, folder, &pairs)?;
    let mut stage = Stage::begin(
        "bench",
        "updates, and what others fetch for them",
        pairs.len() as u64 * (u64::from(options.runs) + 1),
    );
    let pressure = Pressure::now();
    let mut rows = Vec::new();
    for pair in &pairs {
        let sizes = blocks::compare(&pair.old, &pair.new)?;
        let (mut applied, mut dd) = (Vec::new(), Vec::new());
        // In turn, so that a host that gets busier slows both.
        for _ in 0..options.runs {
            dd.push(site.dd(pair)?);
            applied.push(site.apply(pair)?);
            stage.step(&pair.name);
        }
        rows.push(Row {
            name: pair.name.clone(),
            sizes,
            others: programs.measure(&pair.old, &pair.new, sizes)?,
            applied,
            dd,
        });
        stage.step(&pair.name);
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
