//! The A/B updater.

mod boot_evidence;
mod health;
mod pstore;
mod record;

fn main() {}
