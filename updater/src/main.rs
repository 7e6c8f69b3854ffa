//! `updater`: see the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    updater::run(std::env::args_os())
}
