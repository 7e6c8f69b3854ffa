//! Starts the program of a container that waits at its gate.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use oci_spec::runtime::ContainerState;
use runtime::{Setup, hooks};

use crate::log;
use crate::setup;
use crate::state::Container;

/// Opens the gate, waits until the program runs, and runs the poststart hooks.
pub fn start(container: &Container) -> Result<()> {
    let connection = match container.folder.at_gate(connected) {
        Ok(connection) => connection,
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => {
            bail!("cannot start a container that has stopped")
        }
        Err(errno) => return Err(errno).context("open the container's gate"),
    };
    match setup::next(connection.as_fd()) {
        Ok(Setup::Executed) => {}
        Ok(Setup::Failed(error)) => return Err(setup::failure(&error, &container.state.program)),
        Ok(Setup::Pending | Setup::Environment | Setup::Created) => {
            bail!("the container's process sent an unexpected report when it was started")
        }
        Err(error) => return Err(error),
    }
    if container.state.poststart.is_empty() {
        return Ok(());
    }
    let state = container.state.for_hooks(ContainerState::Running)?;
    // All of them, even if one fails.
    for hook in &container.state.poststart {
        if let Err(error) = hooks::run("poststart", std::slice::from_ref(hook), &state) {
            log::warn(&error.to_string());
        }
    }
    Ok(())
}

fn connected(gate: &std::path::Path) -> Result<OwnedFd, Errno> {
    let connection = socket(
        AddressFamily::Unix,
        SockType::SeqPacket,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    connect(connection.as_raw_fd(), &UnixAddr::new(gate)?)?;
    Ok(connection)
}
