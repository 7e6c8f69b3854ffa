//! The state service: grows, checks, repairs and makes the state partition

fn main() {}
