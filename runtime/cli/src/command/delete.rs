//! `delete`.

use anyhow::Result;

use crate::arguments::Delete;
use crate::delete;
use crate::store::Store;

pub fn run(store: &Store, options: &Delete) -> Result<()> {
    delete::delete(store, &options.id, options.force)
}
