//! The real program against a real DHCP server, in network namespaces of its
//! own that a pair of Ethernet links connects. Needs root.
//! `ip` and `dnsmasq` are the tools tree's under `cargo xtask test`, else the host's.

#![allow(clippy::unwrap_used, reason = "a test fails by a panic")]

mod configuration;
mod fixed;
mod ipv6;
mod lease;
mod link;
mod restart;
mod world;
