//! Resolves names without the C library: its lookup blocks a thread that cannot
//! be cancelled when the server does not answer.
//!
//! reqwest's own use of hickory reads `/etc/resolv.conf` once, and asks public
//! servers where it finds none. Here each lookup uses the current file
//! (the network service rewrites it), and without one a lookup fails.

use std::net::SocketAddr;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

#[derive(Debug)]
pub(crate) struct Resolver;

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let mut builder = TokioResolver::builder_tokio()
                .map_err(|error| format!("/etc/resolv.conf: {error}"))?;
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv6AndIpv4;
            let found = builder.build()?.lookup_ip(name.as_str()).await?;
            let addresses: Vec<SocketAddr> =
                found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
