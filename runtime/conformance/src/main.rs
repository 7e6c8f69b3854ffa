//! Tests of the OCI runtime specification 1.2 for any runtime with runc's
//! command line.
//!
//! Each clause is checked in a process of its own, in its own pid and mount
//! namespaces, in its own folder, so that nothing of a check outlives it. What
//! holds inside a container is found out by this same binary, which is copied
//! into each bundle and really does what it is asked to. It must be static
//! for that:
//!
//! ```text
//! RUSTFLAGS='-C target-feature=+crt-static' \
//!     cargo build -p conformance --target x86_64-unknown-linux-gnu
//! runtime-conformance --runtime PATH [--filter TEXT] [--compare PATH]…
//! ```

mod bench;
mod chapters;
mod clause;
mod isolation;
mod needs;
mod options;
mod probe;
mod report;
mod sys;

use std::process::ExitCode;

use anyhow::Result;

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.get(1).map(String::as_str) {
        Some("do") => {
            let steps = arguments.get(2).map_or("[]", String::as_str);
            std::process::exit(probe::main(steps))
        }
        Some("hook") => std::process::exit(probe::hook::main(&arguments[2..])),
        Some("isolated") => isolation::inside(&arguments[2..]),
        _ => options::run(),
    }
}
