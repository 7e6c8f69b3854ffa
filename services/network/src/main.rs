//! The network service: addresses, routes and DNS

fn main() {}
