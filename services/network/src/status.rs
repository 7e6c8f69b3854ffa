//! What the service says about itself: `status.json`, `resolv.conf` and one
//! line for the supervisor. `docs/network.md` specifies both files.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::config::{Config, LinkConfig};
use crate::learned::{Learned, Lease4, Lease6, Moment};
use crate::plan::{self, Address, Link, Origin, Owner, Route, RouteOwner, Wanted};
use config::last_good::{Loaded, Source};
use ipnet::IpNet;

/// Raised when a field changes its meaning or goes; new fields do not count.
pub const VERSION: u32 = 1;

/// `status.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    pub version: u32,
    pub state: State,
    /// One line for people.
    pub summary: String,
    pub configuration: Configuration,
    pub links: Vec<LinkStatus>,
    pub dns: Dns,
    /// Time servers, addresses or names.
    pub ntp: Vec<String>,
    /// The name that DHCP gives this machine.
    pub host_name: Option<String>,
}

/// How the whole is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// All links that are required and have a carrier have their addresses.
    Online,
    /// Some do not.
    Incomplete,
    /// No configured link has a carrier.
    NoLink,
}

/// Which configuration holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Configuration {
    pub source: String,
    pub error: Option<String>,
}

/// A link that the service manages.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LinkStatus {
    pub name: String,
    pub index: u32,
    pub mac: Option<String>,
    pub mtu: u32,
    pub up: bool,
    pub carrier: bool,
    pub required: bool,
    /// What it lacks, in words.
    pub missing: Vec<String>,
    pub addresses: Vec<AddressStatus>,
    pub routes: Vec<RouteStatus>,
    pub dhcp4: Option<Dhcp4Status>,
    pub dhcp6: Option<Dhcp6Status>,
    pub dns: Dns,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AddressStatus {
    pub address: IpNet,
    /// `static`, `dhcp4`, `dhcp6`, `ra`, `link-local` or `other`.
    pub origin: String,
    /// Another machine has it too.
    pub duplicate: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouteStatus {
    pub to: IpNet,
    pub via: Option<IpAddr>,
    pub metric: u32,
    /// `static`, `dhcp4`, `ra`, `kernel` or `other`.
    pub origin: String,
}

/// Times are seconds since the kernel started; none is: never.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dhcp4Status {
    pub server: std::net::Ipv4Addr,
    pub obtained: Moment,
    pub renew: Option<Moment>,
    pub rebind: Option<Moment>,
    pub expires: Option<Moment>,
    pub host_name: Option<String>,
    pub ntp: Vec<std::net::Ipv4Addr>,
    pub mtu: Option<u16>,
}

/// Times are seconds since the kernel started; none is: never.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Dhcp6Status {
    pub address: std::net::Ipv6Addr,
    pub obtained: Moment,
    pub renew: Option<Moment>,
    pub expires: Option<Moment>,
    pub ntp: Vec<String>,
}

/// Servers in the order in which they are asked, and domains.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dns {
    /// Addresses; a link-local one with its link: `fe80::1%eth0`.
    pub servers: Vec<String>,
    pub search: Vec<String>,
}

/// A managed link with all that is known of it.
pub struct View<'a> {
    pub link: &'a Link,
    pub config: &'a LinkConfig,
    pub learned: &'a Learned,
    pub wanted: &'a Wanted,
    pub addresses: &'a [Address],
    pub routes: &'a [Route],
}

/// Puts the whole together.
pub fn status(loaded: &Loaded<Config>, views: &[View<'_>]) -> Status {
    let links: Vec<LinkStatus> = views.iter().map(link_status).collect();
    let state = if !links.iter().any(|link| link.carrier) {
        State::NoLink
    } else if links.iter().any(LinkStatus::lacks) {
        State::Incomplete
    } else {
        State::Online
    };
    let error = loaded.error.as_ref().map(ToString::to_string);
    let mut summary = if links.is_empty() {
        "no link".to_owned()
    } else {
        let lines: Vec<String> = links.iter().map(LinkStatus::line).collect();
        lines.join("; ")
    };
    let source = match loaded.source {
        Source::File => "file",
        Source::LastGood => "last-good",
        Source::Default => "default",
    };
    if let Some(error) = &error {
        // First, for a narrow table cuts the end off.
        summary = format!("configuration error, using {source}: {error}; {summary}");
    }
    let mut dns = Dns::default();
    for link in &links {
        append(&mut dns.servers, &link.dns.servers);
        append(&mut dns.search, &link.dns.search);
    }
    let mut ntp = Vec::new();
    for link in &links {
        if let Some(lease) = &link.dhcp4 {
            let servers: Vec<String> = lease.ntp.iter().map(ToString::to_string).collect();
            append(&mut ntp, &servers);
        }
        if let Some(lease) = &link.dhcp6 {
            append(&mut ntp, &lease.ntp);
        }
    }
    Status {
        version: VERSION,
        state,
        summary,
        configuration: Configuration {
            source: source.to_owned(),
            error,
        },
        host_name: links
            .iter()
            .find_map(|link| link.dhcp4.as_ref()?.host_name.clone()),
        links,
        dns,
        ntp,
    }
}

/// Adds what is not there yet.
fn append(to: &mut Vec<String>, more: &[String]) {
    let there: BTreeSet<String> = to.iter().cloned().collect();
    to.extend(more.iter().filter(|item| !there.contains(*item)).cloned());
}

impl LinkStatus {
    /// Whether it keeps the machine from being online. Without a carrier it
    /// cannot have more, whatever the service does.
    pub fn lacks(&self) -> bool {
        self.required && self.carrier && !self.missing.is_empty()
    }

    /// "eth0: 10.0.2.15/24 via DHCP".
    fn line(&self) -> String {
        let mut words: Vec<String> = self
            .addresses
            .iter()
            .filter(|address| address.origin != "link-local")
            .map(|address| {
                let AddressStatus {
                    address,
                    origin,
                    duplicate,
                } = address;
                let origin = match origin.as_str() {
                    "dhcp4" => " via DHCP",
                    "dhcp6" => " via DHCPv6",
                    "ra" => " via router advertisement",
                    _ => "",
                };
                let duplicate = if *duplicate { " (duplicate)" } else { "" };
                format!("{address}{origin}{duplicate}")
            })
            .collect();
        if !self.carrier {
            words.push("no carrier".to_owned());
        } else if !self.missing.is_empty() {
            words.push(format!("waiting for {}", self.missing.join(" and ")));
        } else if words.is_empty() {
            words.push("up".to_owned());
        }
        format!("{}: {}", self.name, words.join(", "))
    }
}

fn link_status(view: &View<'_>) -> LinkStatus {
    let View {
        link,
        config,
        learned,
        wanted,
        addresses,
        routes,
    } = view;
    LinkStatus {
        name: link.name.clone(),
        index: link.index,
        mac: link.mac.map(|mac| mac.to_string()),
        mtu: link.mtu,
        up: link.up,
        carrier: link.carrier,
        required: config.required,
        missing: plan::missing(config, wanted, addresses),
        addresses: addresses
            .iter()
            .map(|address| address_status(address, wanted))
            .collect(),
        routes: routes.iter().map(route_status).collect(),
        dhcp4: learned
            .dhcp4
            .as_ref()
            .filter(|_| config.dhcp4)
            .map(dhcp4_status),
        dhcp6: learned.dhcp6.as_ref().map(dhcp6_status),
        dns: dns(view),
    }
}

fn address_status(address: &Address, wanted: &Wanted) -> AddressStatus {
    let planned = wanted
        .addresses
        .iter()
        .find(|wanted| wanted.prefix == address.prefix)
        .map(|wanted| wanted.origin);
    let origin = match (planned, address.owner) {
        (Some(Origin::Static), _) => "static",
        (Some(Origin::Dhcp4), _) => "dhcp4",
        (Some(Origin::Dhcp6), _) => "dhcp6",
        (None, Owner::Router) => "ra",
        (None, Owner::LinkLocal) => "link-local",
        (None, Owner::Ours | Owner::Other) => "other",
    };
    AddressStatus {
        address: address.prefix,
        origin: origin.to_owned(),
        duplicate: address.duplicate,
    }
}

fn route_status(route: &Route) -> RouteStatus {
    let origin = match route.owner {
        RouteOwner::OursDhcp => "dhcp4",
        RouteOwner::OursStatic => "static",
        RouteOwner::Router => "ra",
        RouteOwner::Kernel => "kernel",
        RouteOwner::Other => "other",
    };
    RouteStatus {
        to: route.to,
        via: route.via,
        metric: route.metric,
        origin: origin.to_owned(),
    }
}

fn dhcp4_status(lease: &Lease4) -> Dhcp4Status {
    let expires = lease.expires();
    let after = |seconds: u32| expires.map(|_| lease.obtained + Moment::from(seconds));
    Dhcp4Status {
        server: lease.server,
        obtained: lease.obtained,
        renew: after(lease.renew),
        rebind: after(lease.rebind),
        expires,
        host_name: lease.host_name.clone(),
        ntp: lease.ntp.clone(),
        mtu: lease.mtu,
    }
}

fn dhcp6_status(lease: &Lease6) -> Dhcp6Status {
    let expires = lease.expires();
    Dhcp6Status {
        address: lease.address,
        obtained: lease.obtained,
        renew: expires.map(|_| lease.obtained + Moment::from(lease.renew)),
        expires,
        ntp: lease.ntp.clone(),
    }
}

/// What the operator gave, else what was learned: DHCPv4, router
/// advertisements, DHCPv6.
fn dns(view: &View<'_>) -> Dns {
    let View {
        link,
        config,
        learned,
        ..
    } = view;
    let named = |address: &IpAddr| match address {
        IpAddr::V6(address) if address.is_unicast_link_local() => {
            format!("{address}%{}", link.name)
        }
        IpAddr::V4(_) | IpAddr::V6(_) => address.to_string(),
    };
    let lease4 = learned.dhcp4.iter().filter(|_| config.dhcp4);
    let mut dns = Dns::default();
    if config.dns.is_empty() {
        let learned: Vec<String> = lease4
            .clone()
            .flat_map(|lease| lease.dns.iter().map(|server| IpAddr::V4(*server)))
            .chain(learned.announced.dns.iter().map(|item| item.value.into()))
            .chain(
                learned
                    .dhcp6
                    .iter()
                    .flat_map(|lease| lease.dns.iter().map(|server| IpAddr::V6(*server))),
            )
            .map(|server| named(&server))
            .collect();
        for server in learned {
            append(&mut dns.servers, &[server]);
        }
    } else {
        dns.servers = config.dns.iter().map(named).collect();
    }
    if config.search.is_empty() {
        for lease in lease4 {
            append(&mut dns.search, &lease.search);
        }
        for item in &learned.announced.search {
            append(&mut dns.search, std::slice::from_ref(&item.value));
        }
        if let Some(lease) = &learned.dhcp6 {
            append(&mut dns.search, &lease.search);
        }
    } else {
        dns.search.clone_from(&config.search);
    }
    dns
}

/// The content of `resolv.conf`.
pub fn resolv_conf(dns: &Dns) -> String {
    let mut text = String::from("# Written by Wherry's network service; changes are lost.\n");
    for server in &dns.servers {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !dns.search.is_empty() {
        text.push_str(&format!("search {}\n", dns.search.join(" ")));
    }
    text
}

#[cfg(test)]
mod tests;
