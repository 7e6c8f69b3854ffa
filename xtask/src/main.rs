//! `cargo xtask`: builds, boots and tests Wherry.

mod cli;

use anyhow::Result;
use clap::Parser;
use cli::{Arguments, Stage};
use std::process::ExitCode;
use xtask::workspace::Workspace;
use xtask::{release, run, test};

fn main() -> ExitCode {
    match run_stage(Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What failed and why, without a backtrace: it is for a person.
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_stage(arguments: Arguments) -> Result<()> {
    let workspace = Workspace::find()?;
    match arguments.stage {
        Stage::Tools { command } => cli::tools(&workspace, &command),
        Stage::Image { format, output } => cli::image(&workspace, format, output),
        Stage::Release(options) => release::release(&workspace, &options),
        Stage::Guest { command } => cli::guest(&workspace, command.as_deref()),
        Stage::Run(options) => run::run(&workspace, options),
        Stage::Test { name } => test::test(&workspace, name.as_deref()),
        Stage::PowerCut {
            converge,
            boots,
            json,
        } => cli::power_cut(&workspace, converge, boots, json),
        Stage::Bench { what } => cli::bench(&workspace, &what),
    }
}
