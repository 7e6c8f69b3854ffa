//! Builds, boots and tests Wherry

fn main() {}
