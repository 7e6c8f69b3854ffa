//! `cargo xtask`: builds, boots and tests Wherry.

mod cli;

use anyhow::Result;
use cli::Stage;
use std::process::ExitCode;
use xtask::workspace::Workspace;
use xtask::{bench, hostile, release, run, test};

fn main() -> ExitCode {
    match run_stage() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // What failed and why, without a backtrace: it is for a person.
            eprintln!("\nerror: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_stage() -> Result<()> {
    let stage = Stage::parse(std::env::args_os().skip(1).collect())?;
    if let Stage::Help(text) = stage {
        println!("{text}");
        return Ok(());
    }
    let workspace = Workspace::find()?;
    match stage {
        Stage::Help(_) => Ok(()),
        Stage::Tools(command) => cli::tools(&workspace, &command),
        Stage::Image { format, output } => cli::image(&workspace, format, output),
        Stage::Release(options) => release::release(&workspace, &options),
        Stage::Guest(script) => cli::guest(&workspace, script),
        Stage::Run(options) => run::run(&workspace, options),
        Stage::Test(selection) => test::test(&workspace, &selection),
        Stage::HostileMatrix => {
            let count = hostile::write(&workspace)?;
            eprintln!("docs/security.md has {count} hostile tests");
            Ok(())
        }
        Stage::PowerCut(options) => bench::power_cut(&workspace, options),
        Stage::Bench {
            what,
            runs,
            burst,
            guest,
            json,
        } => match what.as_str() {
            "boot" => bench::boot(&workspace, runs.unwrap_or(5), json),
            "update" => bench::update(&workspace, runs.unwrap_or(5), json),
            _ => bench::runtime(&workspace, runs.unwrap_or(60), burst, guest, json),
        },
    }
}
