//! `create`.

use anyhow::{Context, Result};

use crate::arguments::Create;
use crate::create;
use crate::store::Store;

pub fn run(store: &Store, options: &Create) -> Result<()> {
    create::create(store, options, true)
        .map(drop)
        .context("create failed")
}
