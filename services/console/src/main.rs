//! The console service: a shell on each console

fn main() {}
