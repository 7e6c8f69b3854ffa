//! `create`.

use anyhow::{Context, Result};

use crate::arguments::{Create, Global};
use crate::create;
use crate::store::Store;

pub fn run(store: &Store, global: &Global, options: &Create) -> Result<()> {
    create::create(store, global, options, true)
        .map(drop)
        .context("create failed")
}
