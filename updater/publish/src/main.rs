//! `wherry-release`: publishes releases.

mod cli;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    let arguments = cli::Arguments::parse();
    match cli::run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            // What failed and why, in words.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
