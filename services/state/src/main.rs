//! The state service as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    state::run(std::env::args_os())
}
