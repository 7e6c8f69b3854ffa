//! `kill`.

use anyhow::{Context, Result, bail};
use runtime::cgroup::Cgroup;

use crate::arguments::Kill;
use crate::cgroup::Place;
use crate::process::Identity;
use crate::state::Container;
use crate::store::Store;

pub fn run(store: &Store, options: &Kill) -> Result<()> {
    let container = Container::load(store, &options.id)?;
    let state = &container.state;
    let killed = options.signal == libc::SIGKILL;
    // In a pid namespace of its own, all others end with the first process.
    let every = options.all || (killed && !state.own_pid_namespace);
    let place = state.cgroup.as_ref().filter(|_| every);
    if let Some(cgroup) = place.map(Place::open).transpose()?.flatten() {
        return signal_all(&cgroup, options.signal);
    }
    let sent = match state.process {
        Some(process) => process
            .signal(options.signal)
            .with_context(|| format!("kill process {}", process.pid))?,
        None => false,
    };
    if !sent {
        // With --all there may be no process left, which is fine.
        if options.all {
            return Ok(());
        }
        bail!("container not running");
    }
    Ok(())
}

/// To every process of the container, except one that has ended meanwhile.
fn signal_all(cgroup: &Cgroup, signal: i32) -> Result<()> {
    if signal == libc::SIGKILL {
        return Ok(cgroup.kill()?);
    }
    for process in cgroup.processes()? {
        let Some(process) = Identity::of(process.as_raw()) else {
            continue;
        };
        process
            .signal(signal)
            .with_context(|| format!("kill process {}", process.pid))?;
    }
    Ok(())
}
