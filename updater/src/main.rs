//! The A/B updater.

fn main() {}
