//! The log service

fn main() {}
