//! The network service: addresses, routes and DNS.
//!
//! `network` runs it; `network check` is its health probe, `network status`
//! shows a person what it does. The configuration, the files it writes and
//! what it does when are in `docs/network.md`.
//!
//! The flow: [`config`] (what is asked for) and [`learned`] (what DHCP and
//! routers said) → [`plan`] (pure: what must change) → [`kernel`] (does it) →
//! [`status`] (says it). [`service`] is the loop around them.

mod advertisement;
mod clock;
mod commands;
mod config;
mod dhcp4;
mod dhcp6;
mod files;
mod kernel;
mod last_good;
mod learned;
mod logger;
mod notify;
mod options;
mod plan;
mod prefix;
mod service;
mod status;
mod sysctl;
mod watch;

use std::process::ExitCode;

use options::{Command, Options};

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args_os().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("network: {error}\n{}", options::USAGE);
            return ExitCode::from(2);
        }
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("<3>the runtime does not start: {error}");
            return ExitCode::FAILURE;
        }
    };
    runtime.block_on(async {
        match options.command {
            Command::Run => service::run(options).await,
            Command::Check => commands::check(&options).await,
            Command::Status => commands::status(&options),
        }
    })
}
