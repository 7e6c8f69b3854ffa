//! The pure core: what a link should have, and what must change so that it has.
//!
//! [`wanted`] makes of the configuration and of what was learned the addresses
//! and routes of one link. [`changes`] compares them with the kernel's. Nothing
//! is remembered between two calls: whoever changed something, the next call
//! finds it.
//!
//! Only what this service made is ever removed, and the kernel keeps the marks
//! ([`Owner`], [`RouteOwner`]), so that a restarted service knows its own again.
//! The links, addresses and routes of container networks carry no such mark.

use std::net::IpAddr;

use crate::config::{Ipv6, LinkConfig};
use crate::learned::{Learned, Lease4, Moment, left};
use crate::prefix;
use config::value::Mac;
use ipnet::IpNet;

/// A link as the kernel has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    pub mac: Option<Mac>,
    /// Hardware, and no part of another link.
    pub physical: bool,
    pub up: bool,
    pub carrier: bool,
    pub mtu: u32,
    /// The last router advertisement said: addresses by DHCPv6.
    pub dhcp6_announced: bool,
}

/// An address as the kernel has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Address {
    pub prefix: IpNet,
    pub owner: Owner,
    /// Seconds; [`crate::learned::FOREVER`] is for ever.
    pub valid: u32,
    /// Duplicate address detection goes on, and it cannot be used yet.
    pub tentative: bool,
    /// Another machine on the link has it.
    pub duplicate: bool,
}

/// Who made an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This service, now or before a restart.
    Ours,
    /// The kernel, from a router advertisement.
    Router,
    /// The kernel, the link-local one.
    LinkLocal,
    Other,
}

/// A route of the main table as the kernel has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Route {
    pub to: IpNet,
    pub via: Option<IpAddr>,
    pub source: Option<IpAddr>,
    pub metric: u32,
    pub owner: RouteOwner,
}

/// Who made a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteOwner {
    /// This service, because DHCP said so.
    OursDhcp,
    /// This service, because the configuration says so.
    OursStatic,
    /// The kernel, from a router advertisement.
    Router,
    /// The kernel, for the network of an address.
    Kernel,
    Other,
}

/// What a link should have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wanted {
    /// `None` is: as it is.
    pub mtu: Option<u32>,
    pub addresses: Vec<WantedAddress>,
    /// In an order in which each can be reached through those before it.
    pub routes: Vec<WantedRoute>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WantedAddress {
    pub prefix: IpNet,
    pub origin: Origin,
    pub valid: u32,
    pub preferred: u32,
}

/// Where an address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Static,
    Dhcp4,
    Dhcp6,
}

#[derive(Clone, Debug, PartialEq)]
pub struct WantedRoute {
    pub to: IpNet,
    pub via: Option<IpAddr>,
    pub source: Option<IpAddr>,
    pub metric: u32,
    pub dhcp: bool,
    /// `via` is on the link though no network of the link's holds it.
    pub onlink: bool,
}

/// One step towards what is wanted.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    SetMtu(u32),
    RemoveRoute(Route),
    RemoveAddress(IpNet),
    /// Adds it, or gives the one that is there these lifetimes.
    PutAddress(WantedAddress),
    AddRoute(WantedRoute),
}

/// Below 1280 bytes the kernel turns IPv6 off on the link (RFC 8200, section
/// 5), and below 576 a host need not take part in IPv4 (RFC 791): a DHCP server
/// that says so is wrong.
const LEAST_MTU: u32 = 1280;
const LEAST_MTU_IPV4: u32 = 576;

/// Routes that do not name a metric get this and the link's index: the first
/// link wins, no two routes collide, and a router advertisement's default route
/// (1024) loses against a configured one.
const METRIC: u32 = 512;

/// What the link should have at `now`.
pub fn wanted(config: &LinkConfig, link: &Link, learned: &Learned, now: Moment) -> Wanted {
    let mut wanted = Wanted {
        mtu: config.mtu,
        ..Wanted::default()
    };
    let metric = config.metric.unwrap_or(METRIC + link.index);
    for prefix in &config.addresses {
        wanted.addresses.push(WantedAddress {
            prefix: *prefix,
            origin: Origin::Static,
            valid: crate::learned::FOREVER,
            preferred: crate::learned::FOREVER,
        });
    }
    let mut routes = Vec::new();
    if config.dhcp4
        && let Some(lease) = &learned.dhcp4
    {
        take_lease4(&mut wanted, &mut routes, config, lease, metric, now);
    }
    if config.ipv6 == Ipv6::Auto
        && let Some(lease) = &learned.dhcp6
    {
        put(
            &mut wanted.addresses,
            WantedAddress {
                prefix: IpNet::from(IpAddr::from(lease.address)),
                origin: Origin::Dhcp6,
                valid: left(lease.expires(), now),
                preferred: left(lease.preferred_until(), now),
            },
        );
    }
    for gateway in &config.gateways {
        routes.push(WantedRoute {
            to: match gateway {
                IpAddr::V4(_) => prefix::DEFAULT_V4,
                IpAddr::V6(_) => prefix::DEFAULT_V6,
            },
            via: Some(*gateway),
            source: None,
            metric,
            dhcp: false,
            onlink: false,
        });
    }
    for route in &config.routes {
        routes.push(WantedRoute {
            to: route.to,
            via: route.via,
            source: None,
            metric: route.metric.unwrap_or(metric),
            dhcp: false,
            onlink: false,
        });
    }
    wanted.routes = in_order(routes, &wanted.addresses);
    wanted
}

fn take_lease4(
    wanted: &mut Wanted,
    routes: &mut Vec<WantedRoute>,
    config: &LinkConfig,
    lease: &Lease4,
    metric: u32,
    now: Moment,
) {
    let least = match config.ipv6 {
        Ipv6::Off => LEAST_MTU_IPV4,
        Ipv6::Auto | Ipv6::Static => LEAST_MTU,
    };
    let mtu = lease.mtu.map(u32::from).filter(|mtu| *mtu >= least);
    wanted.mtu = wanted.mtu.or(mtu);
    put(
        &mut wanted.addresses,
        WantedAddress {
            prefix: lease.address,
            origin: Origin::Dhcp4,
            valid: left(lease.expires(), now),
            preferred: left(lease.expires(), now),
        },
    );
    let mut route = |to: IpNet, via: Option<IpAddr>| {
        routes.push(WantedRoute {
            to,
            via,
            source: Some(lease.address.addr()),
            metric,
            dhcp: true,
            onlink: false,
        });
    };
    match (&lease.classless_routes, lease.routers.first()) {
        // RFC 3442: with this option the routers do not count.
        (Some(classless), _) => {
            for next in classless {
                let via = (!next.via.is_unspecified()).then_some(next.via.into());
                route(next.to.trunc(), via);
            }
        }
        (None, Some(router)) => route(prefix::DEFAULT_V4, Some((*router).into())),
        (None, None) => {}
    }
}

/// Adds an address unless an earlier source gave the same.
fn put(addresses: &mut Vec<WantedAddress>, address: WantedAddress) {
    if addresses.iter().all(|other| other.prefix != address.prefix) {
        addresses.push(address);
    }
}

/// Routes on the link before those that lead through one of their hosts; of
/// two to the same network with the same metric, which cannot both be, the
/// later, which the operator gave. Marks those whose gateway no network of the
/// link holds (clouds lease a /32 and a router beside it).
fn in_order(routes: Vec<WantedRoute>, addresses: &[WantedAddress]) -> Vec<WantedRoute> {
    let mut ordered: Vec<WantedRoute> = Vec::new();
    for route in routes.into_iter().rev() {
        let same = |other: &WantedRoute| other.to == route.to && other.metric == route.metric;
        if !ordered.iter().any(same) {
            ordered.push(route);
        }
    }
    ordered.reverse();
    ordered.sort_by_key(|route| route.via.is_some());
    let reachable: Vec<IpNet> = addresses
        .iter()
        .map(|address| address.prefix)
        .chain(
            ordered
                .iter()
                .filter(|route| route.via.is_none())
                .map(|route| route.to),
        )
        .collect();
    for route in &mut ordered {
        // The kernel finds a link-local IPv6 gateway by the link that is named.
        route.onlink = route.via.is_some_and(|via| {
            !prefix::is_link_local(via) && !reachable.iter().any(|network| network.contains(&via))
        });
    }
    ordered
}

/// By how many seconds a lifetime in the kernel may differ from the one wanted:
/// both are cut to whole seconds at different instants.
const TOLERANCE: u32 = 5;

/// What must change, in an order in which it can be done: an address goes
/// before another comes, because the kernel removes all addresses of a network
/// with the first of them.
pub fn changes(
    link: &Link,
    addresses: &[Address],
    routes: &[Route],
    wanted: &Wanted,
) -> Vec<Change> {
    let mut changes = Vec::new();
    if let Some(mtu) = wanted.mtu
        && mtu != link.mtu
    {
        changes.push(Change::SetMtu(mtu));
    }
    for route in routes {
        let ours = match route.owner {
            RouteOwner::OursDhcp | RouteOwner::OursStatic => true,
            RouteOwner::Router | RouteOwner::Kernel | RouteOwner::Other => false,
        };
        if ours && !wanted.routes.iter().any(|wanted| is(wanted, route)) {
            changes.push(Change::RemoveRoute(route.clone()));
        }
    }
    for address in addresses {
        if address.owner == Owner::Ours
            && !wanted
                .addresses
                .iter()
                .any(|wanted| wanted.prefix == address.prefix)
        {
            changes.push(Change::RemoveAddress(address.prefix));
        }
    }
    for wanted in &wanted.addresses {
        let there = addresses
            .iter()
            .find(|address| address.prefix == wanted.prefix);
        if there.is_none_or(|address| address.valid.abs_diff(wanted.valid) > TOLERANCE) {
            changes.push(Change::PutAddress(wanted.clone()));
        }
    }
    // The kernel refuses routes through a link that is down.
    if link.up {
        for wanted in &wanted.routes {
            if !routes.iter().any(|route| is(wanted, route)) {
                changes.push(Change::AddRoute(wanted.clone()));
            }
        }
    }
    changes
}

/// Whether the route in the kernel is the wanted one.
fn is(wanted: &WantedRoute, route: &Route) -> bool {
    wanted.to == route.to
        && wanted.via == route.via
        && wanted.metric == route.metric
        && (wanted.source.is_none() || wanted.source == route.source)
}

/// What the link still lacks of that for which the service waits, in words;
/// empty when it has all. One IPv4 address is enough where one is configured:
/// IPv6 comes when it comes.
pub fn missing(config: &LinkConfig, wanted: &Wanted, addresses: &[Address]) -> Vec<String> {
    let has = |prefix: IpNet| {
        addresses
            .iter()
            .any(|address| address.prefix == prefix && !address.duplicate)
    };
    let mut missing: Vec<String> = wanted
        .addresses
        .iter()
        .filter(|address| address.origin == Origin::Static && !has(address.prefix))
        .map(|address| format!("the address {}", address.prefix))
        .collect();
    if config.dhcp4 {
        let leased = |address: &WantedAddress| {
            address.prefix.addr().is_ipv4()
                && has(address.prefix)
                && address.origin == Origin::Dhcp4
        };
        if !wanted.addresses.iter().any(leased) {
            missing.push("an IPv4 address by DHCP".to_owned());
        }
    } else if config.addresses.is_empty() && config.ipv6 == Ipv6::Auto {
        let global = |address: &Address| {
            !address.prefix.addr().is_ipv4()
                && !prefix::is_link_local(address.prefix.addr())
                && !address.tentative
                && !address.duplicate
        };
        if !addresses.iter().any(global) {
            missing.push("an IPv6 address".to_owned());
        }
    }
    missing
}

#[cfg(test)]
mod tests;
