//! `cargo xtask`: builds, boots and tests Wherry.

mod cli;

use anyhow::Result;
use clap::Parser;
use cli::{Arguments, Stage};
use xtask::run;
use xtask::workspace::Workspace;

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let workspace = Workspace::find()?;
    match arguments.stage {
        Stage::Tools { command } => cli::tools(&workspace, &command),
        Stage::Image { format, output } => cli::image(&workspace, format, output),
        Stage::Run(options) => run::run(&workspace, options),
        Stage::Bench { what } => cli::bench(&workspace, &what),
    }
}
