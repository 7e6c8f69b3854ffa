//! `start`.

use anyhow::{Result, bail};

use crate::id::Id;
use crate::start;
use crate::state::{Container, Status};
use crate::store::{NoSuchContainer, Store};

pub fn run(store: &Store, id: &Id) -> Result<()> {
    let Some(_lock) = store.folder(id).lock()? else {
        return Err(NoSuchContainer(id.clone()).into());
    };
    let container = Container::load(store, id)?;
    match container.status()? {
        Status::Created => start::start(&container),
        Status::Stopped => bail!("cannot start a container that has stopped"),
        status @ (Status::Creating | Status::Running | Status::Paused) => {
            bail!("cannot start a container in the {status} state")
        }
    }
}
