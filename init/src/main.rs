//! x
mod cmdline;
mod definition;
mod notify;
mod spec;
fn main() {}
