//! `state`.

use std::io::{Write, stdout};

use anyhow::{Context, Result};

use crate::id::Id;
use crate::state::{Container, Shown};
use crate::store::Store;

pub fn run(store: &Store, id: &Id) -> Result<()> {
    let container = Container::load(store, id)?;
    let text = serde_json::to_string_pretty(&Shown::of(&container)?).context("the state")?;
    writeln!(stdout(), "{text}").context("print the state")
}
