//! What the operator asked for: `/state/config/network/network.toml`.
//!
//! [`parse`] is pure. `docs/network.md` is the manual page; a test compares its
//! tables of keys with the ones here. What becomes of a file with an error is
//! decided in [`config::last_good`].

mod file;

use std::net::IpAddr;
use std::time::Duration;

use config::value::{Mac, Pattern};
use ipnet::IpNet;

pub use file::parse;

/// The whole configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// How long the service waits for addresses before it says that it is
    /// ready without them.
    pub wait: Duration,
    /// What to do with which links; of several that match the first counts.
    pub links: Vec<LinkConfig>,
}

/// What to do with the links that match.
#[derive(Clone, Debug, PartialEq)]
pub struct LinkConfig {
    pub matches: Match,
    /// Whether the links are touched at all.
    pub managed: bool,
    /// Whether the service waits for their addresses and is unhealthy without.
    pub required: bool,
    pub dhcp4: bool,
    pub ipv6: Ipv6,
    pub addresses: Vec<IpNet>,
    /// At most one of each family.
    pub gateways: Vec<IpAddr>,
    pub routes: Vec<RouteConfig>,
    /// Of the routes that do not name their own; without, by the link's index.
    pub metric: Option<u32>,
    /// Where not empty, instead of the servers that were learned.
    pub dns: Vec<IpAddr>,
    /// Where not empty, instead of the domains that were learned.
    pub search: Vec<String>,
    /// Where set, instead of the one that DHCP says.
    pub mtu: Option<u32>,
}

/// Which links: all that is given must fit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Match {
    pub name: Option<Pattern>,
    pub mac: Option<Mac>,
}

/// Where IPv6 addresses come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ipv6 {
    /// Router advertisements, and DHCPv6 where they say so; configured ones
    /// beside them.
    Auto,
    /// No IPv6, not even a link-local address.
    Off,
    /// Only the configured ones and the link-local one.
    Static,
}

/// A configured route.
#[derive(Clone, Debug, PartialEq)]
pub struct RouteConfig {
    pub to: IpNet,
    /// Without, what it leads to is on the link itself.
    pub via: Option<IpAddr>,
    pub metric: Option<u32>,
}

impl Default for Config {
    /// Each physical Ethernet link with DHCPv4 and router advertisements. 10 s
    /// hold two lost DHCP packets (sent again after 3 to 5 s).
    fn default() -> Self {
        Self {
            wait: Duration::from_secs(10),
            links: vec![LinkConfig::default()],
        }
    }
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            matches: Match::default(),
            managed: true,
            required: true,
            dhcp4: true,
            ipv6: Ipv6::Auto,
            addresses: Vec::new(),
            gateways: Vec::new(),
            routes: Vec::new(),
            metric: None,
            dns: Vec::new(),
            search: Vec::new(),
            mtu: None,
        }
    }
}

/// A link as far as it decides which configuration is its own.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub name: &'a str,
    pub mac: Option<Mac>,
    /// A piece of hardware (or of a hypervisor's), neither a link that software
    /// made (veth, bridge, VLAN…) nor a part of one.
    pub physical: bool,
}

impl Config {
    /// What to do with this link; `None` is: leave it alone. Links that
    /// software made belong to whoever made them, so only their full name can
    /// mean them.
    pub fn of_link(&self, link: Candidate<'_>) -> Option<&LinkConfig> {
        self.links
            .iter()
            .find(|config| config.matches.fits(link))
            .filter(|config| config.managed)
    }
}

impl Match {
    fn fits(&self, link: Candidate<'_>) -> bool {
        let by_name = match &self.name {
            Some(pattern) => pattern.fits(link.name) && (link.physical || pattern.is_exact()),
            None => link.physical,
        };
        by_name && self.mac.is_none_or(|mac| link.mac == Some(mac))
    }
}

#[cfg(test)]
mod tests;
