//! The log service as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    log_service::run(std::env::args_os())
}
