//! x
mod cmdline;
mod definition;
mod notify;
fn main() {}
