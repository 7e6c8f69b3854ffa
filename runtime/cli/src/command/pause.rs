//! `pause` and `resume`.

use anyhow::{Result, bail};
use runtime::cgroup::Cgroup;

use crate::id::Id;
use crate::state::{Container, Status};
use crate::store::{NoSuchContainer, Store};

pub fn pause(store: &Store, id: &Id) -> Result<()> {
    let change = |status: Status, cgroup: &Cgroup| match status {
        Status::Running | Status::Created => Ok(cgroup.pause()?),
        _ => bail!("container not running or created: {status}"),
    };
    with(store, id, change)
}

pub fn resume(store: &Store, id: &Id) -> Result<()> {
    let change = |status: Status, cgroup: &Cgroup| match status {
        Status::Paused => Ok(cgroup.resume()?),
        _ => bail!("container not paused: {status}"),
    };
    with(store, id, change)
}

fn with(store: &Store, id: &Id, change: impl FnOnce(Status, &Cgroup) -> Result<()>) -> Result<()> {
    let Some(_lock) = store.folder(id).lock()? else {
        return Err(NoSuchContainer(id.clone()).into());
    };
    let container = Container::load(store, id)?;
    let status = container.status()?;
    change(status, &container.cgroup()?)
}
