//! Wherry's PID 1

fn main() {}
