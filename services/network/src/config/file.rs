//! The file's own types and defaults, and their translation into a [`Config`].

use std::net::IpAddr;
use std::str::FromStr;

use config::value::{Address, Duration, Mac, OneOrMany, Pattern, Prefix, within};
use config::{Fault, text};
use ipnet::IpNet;
use serde::Deserialize;

use super::{Config, Ipv6, LinkConfig, Match, RouteConfig};
use crate::prefix;

/// `network.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    wait: Option<Duration>,
    link: Option<Vec<LinkTable>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LinkTable {
    #[serde(default, rename = "match")]
    matches: MatchTable,
    #[serde(default = "yes")]
    managed: bool,
    #[serde(default = "yes")]
    required: bool,
    dhcp4: Option<bool>,
    ipv6: Option<Ipv6Key>,
    #[serde(default)]
    addresses: Vec<Prefix>,
    #[serde(default, rename = "gateway")]
    gateways: OneOrMany<Address>,
    #[serde(default)]
    routes: Vec<RouteTable>,
    metric: Option<u32>,
    #[serde(default)]
    dns: Vec<Address>,
    #[serde(default)]
    search: Vec<String>,
    mtu: Option<u32>,
}

fn yes() -> bool {
    true
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct MatchTable {
    name: Option<Pattern>,
    mac: Option<Mac>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Ipv6Key {
    Auto,
    Off,
    Static,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RouteTable {
    to: Destination,
    via: Option<Address>,
    metric: Option<u32>,
}

/// `"default"` or a network. The default's family is that of its `via`.
#[derive(Clone, Copy, Debug)]
enum Destination {
    Default,
    Network(IpNet),
}

text!(Destination);

impl FromStr for Destination {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let Prefix(prefix) = text.parse().map_err(|_| {
            format!("'{text}' is not a network, expected one as 10.1.0.0/16, or default")
        })?;
        if prefix != prefix.trunc() {
            return Err(format!(
                "'{text}' has bits behind its prefix, expected the network {}",
                prefix.trunc()
            ));
        }
        Ok(Self::Network(prefix))
    }
}

/// Reads the file's text. `file` is only for the error.
pub fn parse(file: &str, text: &str) -> Result<Config, config::Error> {
    config::parse(file, text, |file: File| {
        let default = Config::default();
        let links = match file.link {
            None => default.links,
            Some(tables) => tables
                .into_iter()
                .enumerate()
                .map(|(index, table)| link(table).map_err(|fault| fault.at(index).at("link")))
                .collect::<Result<_, _>>()?,
        };
        Ok(Config {
            wait: file.wait.map_or(default.wait, |wait| wait.0),
            links,
        })
    })
}

/// The shortest packet that each IPv6 link must carry (RFC 8200, section 5);
/// below it the kernel turns IPv6 off on the link.
const MTU_IPV6: u32 = 1280;
/// The shortest that each IPv4 link must carry (RFC 791).
const MTU_IPV4: u32 = 68;

/// Checks what the types could not.
fn link(table: LinkTable) -> Result<LinkConfig, Fault> {
    let ipv6 = match table.ipv6 {
        None | Some(Ipv6Key::Auto) => Ipv6::Auto,
        Some(Ipv6Key::Off) => Ipv6::Off,
        Some(Ipv6Key::Static) => Ipv6::Static,
    };
    let addresses: Vec<IpNet> = table.addresses.into_iter().map(|prefix| prefix.0).collect();
    if ipv6 == Ipv6::Off
        && let Some(index) = addresses.iter().position(|it| it.addr().is_ipv6())
    {
        let fault = Fault::new(format!("{} with ipv6 = \"off\"", addresses[index]));
        return Err(fault.at(index).at("addresses"));
    }
    let gateways: Vec<IpAddr> = table.gateways.0.into_iter().map(|it| it.0).collect();
    for (index, gateway) in gateways.iter().enumerate() {
        let same_family = |other: &IpAddr| other.is_ipv4() == gateway.is_ipv4();
        if gateways[..index].iter().any(same_family) {
            return Err(Fault::new("two of one family; use routes")
                .at(index)
                .at("gateway"));
        }
    }
    for (index, domain) in table.search.iter().enumerate() {
        if domain.is_empty() || domain.contains(|c: char| c.is_whitespace() || c.is_control()) {
            let fault = Fault::new(format!("'{domain}' is not a domain"));
            return Err(fault.at(index).at("search"));
        }
    }
    if let Some(mtu) = table.mtu {
        let least = if ipv6 == Ipv6::Off {
            MTU_IPV4
        } else {
            MTU_IPV6
        };
        within(mtu, least..=65535).map_err(|fault| fault.at("mtu"))?;
    }
    let routes = table
        .routes
        .into_iter()
        .enumerate()
        .map(|(index, table)| route(table).map_err(|fault| fault.at(index).at("routes")))
        .collect::<Result<_, _>>()?;
    Ok(LinkConfig {
        matches: Match {
            name: table.matches.name,
            mac: table.matches.mac,
        },
        managed: table.managed,
        required: table.required,
        // A person who gives an IPv4 address does not want another one.
        dhcp4: table
            .dhcp4
            .unwrap_or_else(|| !addresses.iter().any(|address| address.addr().is_ipv4())),
        ipv6,
        addresses,
        gateways,
        routes,
        metric: table.metric,
        dns: table.dns.into_iter().map(|server| server.0).collect(),
        search: table.search,
        mtu: table.mtu,
    })
}

fn route(table: RouteTable) -> Result<RouteConfig, Fault> {
    let via = table.via.map(|via| via.0);
    let to = match (table.to, via) {
        (Destination::Network(to), _) => to,
        (Destination::Default, Some(via)) if via.is_ipv4() => prefix::DEFAULT_V4,
        (Destination::Default, Some(_)) => prefix::DEFAULT_V6,
        (Destination::Default, None) => {
            return Err(Fault::new("a default route needs `via`"));
        }
    };
    if let Some(via) = via
        && via.is_ipv4() != to.addr().is_ipv4()
    {
        let fault = Fault::new(format!("{to} and {via} are of different families"));
        return Err(fault.at("via"));
    }
    Ok(RouteConfig {
        to,
        via,
        metric: table.metric,
    })
}
