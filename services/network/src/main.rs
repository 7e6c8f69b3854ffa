//! The network service as a program of its own.

use std::process::ExitCode;

fn main() -> ExitCode {
    network::run(std::env::args_os())
}
