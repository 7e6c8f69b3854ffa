//! `cargo xtask bench update`: what an update costs, beside what it must cost
//! and what other programs take for the same one.
//!
//! - [`pairs`]: the releases that are compared;
//! - [`blocks`]: what has to be fetched at least;
//! - [`others`]: RAUC, zchunk, xdelta3 and bsdiff on the same images.

pub mod blocks;
pub mod others;
pub mod pairs;

use crate::workspace::Workspace;
use anyhow::Result;
use others::Programs;

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
    let _lock = workspace.lock()?;
    let programs = Programs::make(workspace)?;
    for pair in pairs::make(workspace, &workspace.build.join("bench-update"))? {
        let sizes = blocks::compare(&pair.old, &pair.new)?;
        let others = programs.measure(&pair.old, &pair.new, sizes)?;
        println!("{} {} {sizes:?} {others:?}", pair.name, options.json);
    }
    Ok(())
}
