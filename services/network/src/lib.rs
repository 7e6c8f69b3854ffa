//! The network service: addresses, routes and DNS.
//!
//! `network` runs it; `network check` is its health probe, `network status`
//! shows a person what it does. The configuration, the files it writes and
//! what it does when are in `docs/network.md`.
//!
//! The flow: [`config`] (what is asked for) and [`learned`] (what DHCP and
//! routers said) → [`plan`] (pure: what must change) → [`kernel`] (does it) →
//! [`status`] (says it). [`daemon`] is the loop around them.

mod advertisement;
mod clock;
mod commands;
mod config;
mod daemon;
mod dhcp4;
mod dhcp6;
mod kernel;
mod learned;
mod logger;
mod options;
mod plan;
mod prefix;
mod status;
mod sysctl;
mod watch;

use std::ffi::OsString;
use std::process::ExitCode;

use options::{Command, Options};
use service::Level;

/// Runs the program: `arguments` begin with its name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let options = match Options::parse(arguments.into_iter().skip(1)) {
        Ok(options) => options,
        Err(mistake) => return service::wrong_usage(&mistake, options::USAGE),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            service::say(
                Level::Error,
                &format!("the runtime does not start: {error}"),
            );
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match options.command {
            Command::Run => daemon::run(options).await,
            Command::Check => commands::check(&options).await,
            Command::Status => commands::status(&options),
        }
    })
}
