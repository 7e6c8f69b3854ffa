//! The A/B updater.
//!
//! `updater run` is the system service; the other commands do the same once, on a
//! disk or an image of one. The flow of an update: [`source`] (where from, which)
//! → [`install`] (the way to a goal, step by step) → restart → [`boot_evidence`]
//! (what the last boots were) → [`health`] → blessed, or the boot loader falls
//! back. `docs/updates.md` is the manual page.

mod arguments;
mod boot_evidence;
mod daemon;
mod decision;
mod error;
mod health;
mod install;
mod listener;
mod lock_client;
mod metered;
mod one_shot;
mod pid1;
mod pstore;
mod record;
mod say;
mod settings;
mod source;
mod worker;

use std::process::ExitCode;

use arguments::{Arguments, Command};
use clap::Parser;

/// Threads that wait for files, of each runtime: the container has room for few.
const BLOCKING_THREADS: usize = 4;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("<3>the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match arguments.command {
            Command::Run(run) => daemon::run(run).await,
            Command::Install(install) => one_shot::install(&install).await,
            Command::Bless(on) => one_shot::bless(&on).await,
            Command::Rollback(on) => one_shot::rollback(&on).await,
            Command::Look(on) => one_shot::look(&on),
        }
    })
}
