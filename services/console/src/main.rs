//! The console service as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    console::run(std::env::args_os())
}
