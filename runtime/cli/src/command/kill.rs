//! `kill`.

use anyhow::{Context, Result, bail};
use nix::sys::signal::{Signal, kill};

use crate::arguments::Kill;
use crate::state::Container;
use crate::store::Store;

pub fn run(store: &Store, options: &Kill) -> Result<()> {
    let container = Container::load(store, &options.id)?;
    let state = &container.state;
    let killed = options.signal == libc::SIGKILL;
    let alone = state.own_pid_namespace && !options.all;
    if options.all || (killed && !alone) {
        if let Some(cgroup) = state
            .cgroup
            .as_ref()
            .map(|place| place.open())
            .transpose()?
            .flatten()
        {
            if killed {
                return Ok(cgroup.kill()?);
            }
            let signal = Signal::try_from(options.signal).context("--all")?;
            for process in cgroup.processes()? {
                match kill(process, signal) {
                    Ok(()) | Err(nix::Error::ESRCH) => {}
                    Err(errno) => {
                        return Err(errno).with_context(|| format!("kill process {process}"));
                    }
                }
            }
            return Ok(());
        }
    }
    let sent = match state.process {
        Some(process) => process
            .signal(options.signal)
            .with_context(|| format!("kill process {}", process.pid))?,
        None => false,
    };
    if !sent {
        // With --all there may be nobody left, which is what was wanted.
        if options.all {
            return Ok(());
        }
        bail!("container not running");
    }
    Ok(())
}
