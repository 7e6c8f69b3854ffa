//! Deletes a container.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use oci_spec::runtime::ContainerState;
use runtime::hooks;

use crate::id::Id;
use crate::log;
use crate::state::{Container, State, Status};
use crate::store::{Folder, NoSuchContainer, Store};

/// How long a killed process may take to disappear.
const GONE_LIMIT: Duration = Duration::from_secs(10);

/// Deletes a container by its id; with `force` also a running, a half-created
/// or a missing one.
pub fn delete(store: &Store, id: &Id, force: bool) -> Result<()> {
    let folder = store.folder(id);
    if force {
        // Before the lock: its holder may be waiting for the container.
        if let Ok(Some(state)) = folder.state() {
            kill(&state)?;
        }
    }
    let Some(_lock) = folder.lock()? else {
        return if force {
            Ok(())
        } else {
            Err(NoSuchContainer(id.clone()).into())
        };
    };
    let state = match folder.state() {
        Ok(state) => state,
        Err(error) if force => {
            log::warn(&format!("{error:#}"));
            None
        }
        Err(error) => return Err(error),
    };
    let Some(state) = state else {
        // Its creator was killed before anything else was made.
        return folder.remove();
    };
    let container = Container { folder, state };
    match container.status()? {
        // Nobody is creating it any more: this command has the lock.
        Status::Stopped | Status::Created | Status::Creating => {}
        Status::Running | Status::Paused if force => {}
        status @ (Status::Running | Status::Paused) => {
            bail!("cannot delete container {id} that is not stopped: {status}")
        }
    }
    destroy(&container.folder, &container.state)
}

/// Deletes a container that this program has run to its end, unless somebody
/// else already has.
pub fn finish(container: &Container) -> Result<()> {
    let Some(_lock) = container.folder.lock()? else {
        return Ok(());
    };
    // Or made another one of this name.
    match container.folder.state()? {
        Some(state) if state.process == container.state.process => {
            destroy(&container.folder, &container.state)
        }
        Some(_) | None => Ok(()),
    }
}

/// Removes everything that was made for a container that has nothing left to
/// run.
pub fn destroy(folder: &Folder, state: &State) -> Result<()> {
    kill(state)?;
    if let Some(place) = &state.cgroup {
        if state.complete || folder.has_gate() {
            place.destroy(&state.id)?;
        } else {
            place.remove_empty();
        }
    }
    state.resctrl.remove()?;
    folder.remove()?;
    run_poststop(state)
}

/// Runs the hooks that follow the end of a container; failures are only logged.
pub fn run_poststop(state: &State) -> Result<()> {
    if state.poststop.is_empty() {
        return Ok(());
    }
    let hook_state = state.for_hooks(ContainerState::Stopped)?;
    for hook in &state.poststop {
        if let Err(error) = hooks::run("poststop", std::slice::from_ref(hook), &hook_state) {
            log::warn(&error.to_string());
        }
    }
    Ok(())
}

/// Kills the first process, and waits until it is gone.
fn kill(state: &State) -> Result<()> {
    let Some(process) = state.process else {
        return Ok(());
    };
    let failed = || format!("kill the container's process {}", process.pid);
    let Some(descriptor) = process.open().with_context(failed)? else {
        return Ok(());
    };
    match crate::sys::send_signal(descriptor.as_fd(), libc::SIGKILL) {
        Ok(()) => {}
        Err(Errno::ESRCH) => return Ok(()),
        Err(errno) => return Err(errno).with_context(failed),
    }
    if let Some(place) = &state.cgroup {
        place.thaw();
    }
    let deadline = Instant::now() + GONE_LIMIT;
    while process.is_alive() {
        let rest = deadline.saturating_duration_since(Instant::now());
        if rest.is_zero() {
            bail!("{}: still there after {} s", failed(), GONE_LIMIT.as_secs());
        }
        let rest = PollTimeout::try_from(rest).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, rest) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno).with_context(failed),
        }
    }
    Ok(())
}
