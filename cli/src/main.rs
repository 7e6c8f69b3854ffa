//! `wherry`, the operator's command.
//!
//! It asks PID 1 and the updater over their sockets, reads the journal's files,
//! and prints tables for people or, with `--json`, one stable shape for machines.
//! It holds no state of its own. `docs/cli.md` is its manual page.

mod arguments;
mod boot_chart;
mod completions;
mod failure;
mod hostname;
mod inhibit;
mod logs;
mod outcome;
mod output;
mod power;
mod service;
mod status;
mod table;
mod terminal;
mod units;
mod update;
mod version;
mod when;

use std::process::ExitCode;

use arguments::{Arguments, Command, HostnameCommand};
use control::Shutdown;
use failure::Failure;

fn main() -> ExitCode {
    let arguments = match arguments::parse(std::env::args_os()) {
        Ok(arguments) => arguments,
        Err(error) => return failure::usage(&error),
    };
    match run(&arguments) {
        Ok(code) => code,
        Err(failure) => failure.report(),
    }
}

fn run(arguments: &Arguments) -> Result<ExitCode, Failure> {
    let place = &arguments.place;
    match &arguments.command {
        Command::Status => status::run(place),
        Command::Service(command) => service::run(place, command),
        Command::Update(update) => update::run(place, update),
        Command::Logs(selection) => logs::run(place, selection),
        Command::BootChart { output } => boot_chart::run(place, output.as_deref()),
        Command::Hostname(HostnameCommand::Set { hostname }) => hostname::set(place, hostname),
        Command::Inhibit(inhibit) => return inhibit::run(place, inhibit),
        Command::Poweroff(how) => power::shut_down(place, Shutdown::Poweroff, how),
        Command::Reboot(how) => power::shut_down(place, Shutdown::Reboot, how),
        Command::Halt(how) => power::shut_down(place, Shutdown::Halt, how),
        Command::Reexec => power::reexec(place),
        Command::Version => version::run(place),
        Command::Completions { shell } => completions::run(*shell),
    }?;
    Ok(ExitCode::SUCCESS)
}
