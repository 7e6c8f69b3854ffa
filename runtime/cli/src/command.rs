//! The commands.

mod create;
mod delete;
mod events;
mod exec;
mod features;
mod kill;
mod list;
mod pause;
mod ps;
mod run;
mod spec;
mod start;
mod state;
mod update;

use anyhow::{Result, bail};

use crate::arguments::{Arguments, Command};
use crate::log;
use crate::own_program;
use crate::store::Store;

/// Runs the command; the result is this program's exit code.
pub fn run(arguments: &Arguments) -> Result<u8> {
    let protected = match &arguments.command {
        Command::Create(_) | Command::Run(_) | Command::Exec(_) => own_program::protect(),
        _ => Ok(()),
    };
    let global = &arguments.global;
    log::open(global)?;
    protected?;
    let store = Store::new(global.root.as_deref())?;
    let done = match &arguments.command {
        Command::Run(options) => return run::run(&store, global, options),
        Command::Exec(options) => return exec::run(&store, options),
        Command::Create(options) => create::run(&store, global, options),
        Command::Start { id } => start::run(&store, id),
        Command::Kill(options) => kill::run(&store, options),
        Command::Delete(options) => delete::run(&store, options),
        Command::State { id } => state::run(&store, id),
        Command::List(options) => list::run(&store, options),
        Command::Ps(options) => ps::run(&store, options),
        Command::Pause { id } => pause::pause(&store, id),
        Command::Resume { id } => pause::resume(&store, id),
        Command::Update(options) => update::run(&store, options),
        Command::Events(options) => events::run(&store, options),
        Command::Features => features::run(),
        Command::Spec(options) => spec::run(options),
        Command::Checkpoint(_) => bail!("checkpoint is not supported by this runtime"),
        Command::Restore(_) => bail!("restore is not supported by this runtime"),
    };
    done.map(|()| 0)
}
