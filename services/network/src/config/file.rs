//! The file's own types and defaults, and their translation into a [`Config`].

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde::de::{self, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use super::{Config, Ipv6, LinkConfig, Match, Pattern, RouteConfig};
use crate::prefix::Prefix;

/// What is wrong, and at which byte of the file.
pub struct Wrong {
    pub offset: usize,
    pub message: String,
}

/// `network.toml`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    wait: Option<Wait>,
    link: Option<Vec<Spanned<LinkTable>>>,
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
    #[serde(default, rename = "gateway", deserialize_with = "one_or_many")]
    gateways: Vec<IpAddr>,
    #[serde(default)]
    routes: Vec<Spanned<RouteTable>>,
    metric: Option<u32>,
    #[serde(default)]
    dns: Vec<IpAddr>,
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
    via: Option<IpAddr>,
    metric: Option<u32>,
}

/// Of an Ethernet link.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Mac(pub [u8; 6]);

impl FromStr for Mac {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("'{text}' is not a hardware address, as 52:54:00:12:34:56");
        let mut mac = [0; 6];
        let mut parts = text.split([':', '-']);
        for byte in &mut mac {
            let part = parts
                .next()
                .filter(|part| part.len() == 2)
                .ok_or_else(wrong)?;
            *byte = u8::from_str_radix(part, 16).map_err(|_| wrong())?;
        }
        match parts.next() {
            None => Ok(Self(mac)),
            Some(_) => Err(wrong()),
        }
    }
}

impl TryFrom<String> for Mac {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, f] = self.0;
        write!(out, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}")
    }
}

/// `"10s"`, `"500ms"`, `"1m"`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
struct Wait(Duration);

impl TryFrom<String> for Wait {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let split = text
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(split);
        let milliseconds: u64 = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            _ => 0,
        };
        number
            .parse::<u32>()
            .ok()
            .filter(|_| milliseconds > 0)
            .map(|number| Self(Duration::from_millis(u64::from(number) * milliseconds)))
            .ok_or_else(|| format!("'{text}' is not a time; write it as 10s, 500ms or 1m"))
    }
}

/// `"default"` or a network. The default's family is that of its `via`.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(try_from = "String")]
enum Destination {
    Default,
    Network(Prefix),
}

impl TryFrom<String> for Destination {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "default" {
            return Ok(Self::Default);
        }
        let prefix: Prefix = text
            .parse()
            .map_err(|_| format!("'{text}' is neither a network, as 10.1.0.0/16, nor default"))?;
        if prefix != prefix.network() {
            return Err(format!(
                "'{text}' has bits behind its prefix; the network is {}",
                prefix.network()
            ));
        }
        Ok(Self::Network(prefix))
    }
}

/// One address or a list of them.
fn one_or_many<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<IpAddr>, D::Error> {
    struct Addresses;
    impl<'de> Visitor<'de> for Addresses {
        type Value = Vec<IpAddr>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("an IP address or a list of them")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
            text.parse()
                .map(|address| vec![address])
                .map_err(|_| E::custom(format!("'{text}' is not an IP address")))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut addresses = Vec::new();
            while let Some(address) = list.next_element()? {
                addresses.push(address);
            }
            Ok(addresses)
        }
    }
    from.deserialize_any(Addresses)
}

/// Reads the file's text.
pub fn parse(text: &str) -> Result<Config, Wrong> {
    let file: File = toml::from_str(text).map_err(|error| {
        let offset = error.span().map_or(0, |span| span.start);
        Wrong {
            offset,
            message: name_key(text, offset, error.message()),
        }
    })?;
    let default = Config::default();
    let links = match file.link {
        None => default.links,
        Some(tables) => tables.into_iter().map(link).collect::<Result<_, _>>()?,
    };
    Ok(Config {
        wait: file.wait.map_or(default.wait, |wait| wait.0),
        links,
    })
}

/// The error with the key that it is about, which the parser names only where
/// it is unknown.
fn name_key(text: &str, offset: usize, message: &str) -> String {
    let message = message.trim().replace('\n', ", ");
    if message.contains("unknown field") {
        return message.replace("unknown field", "unknown key");
    }
    let start = text[..offset.min(text.len())]
        .rfind('\n')
        .map_or(0, |newline| newline + 1);
    let line = text[start..].lines().next().unwrap_or("");
    match line.split_once('=') {
        Some((key, _)) => format!("key `{}`: {message}", key.trim()),
        None => message,
    }
}

/// The shortest packet that each IPv6 link must carry (RFC 8200, section 5);
/// below it the kernel turns IPv6 off on the link.
const MTU_IPV6: u32 = 1280;
/// The shortest that each IPv4 link must carry (RFC 791).
const MTU_IPV4: u32 = 68;

/// Checks what the types could not.
fn link(table: Spanned<LinkTable>) -> Result<LinkConfig, Wrong> {
    let offset = table.span().start;
    let table = table.into_inner();
    let wrong = |key: &str, message: String| Wrong {
        offset,
        message: format!("key `{key}` of this link: {message}"),
    };

    let ipv6 = match table.ipv6 {
        None | Some(Ipv6Key::Auto) => Ipv6::Auto,
        Some(Ipv6Key::Off) => Ipv6::Off,
        Some(Ipv6Key::Static) => Ipv6::Static,
    };
    if ipv6 == Ipv6::Off
        && let Some(address) = table.addresses.iter().find(|address| !address.is_ipv4())
    {
        return Err(wrong("addresses", format!("{address} with ipv6 = \"off\"")));
    }
    for (index, gateway) in table.gateways.iter().enumerate() {
        let same_family = |other: &IpAddr| other.is_ipv4() == gateway.is_ipv4();
        if table.gateways[..index].iter().any(same_family) {
            return Err(wrong("gateway", "two of one family; use routes".to_owned()));
        }
    }
    for domain in &table.search {
        if domain.is_empty() || domain.contains(|c: char| c.is_whitespace() || c.is_control()) {
            return Err(wrong("search", format!("'{domain}' is not a domain")));
        }
    }
    if let Some(mtu) = table.mtu {
        let least = if ipv6 == Ipv6::Off {
            MTU_IPV4
        } else {
            MTU_IPV6
        };
        if mtu < least || mtu > 65535 {
            return Err(wrong("mtu", format!("{mtu} is not within {least}..65535")));
        }
    }
    let routes = table
        .routes
        .into_iter()
        .map(route)
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
            .unwrap_or_else(|| !table.addresses.iter().any(|address| address.is_ipv4())),
        ipv6,
        addresses: table.addresses,
        gateways: table.gateways,
        routes,
        metric: table.metric,
        dns: table.dns,
        search: table.search,
        mtu: table.mtu,
    })
}

fn route(table: Spanned<RouteTable>) -> Result<RouteConfig, Wrong> {
    let offset = table.span().start;
    let table = table.into_inner();
    let wrong = |message: String| Wrong {
        offset,
        message: format!("key `routes`: {message}"),
    };
    let to = match (table.to, table.via) {
        (Destination::Network(to), _) => to,
        (Destination::Default, Some(via)) if via.is_ipv4() => Prefix::DEFAULT_V4,
        (Destination::Default, Some(_)) => Prefix::DEFAULT_V6,
        (Destination::Default, None) => {
            return Err(wrong("a default route needs `via`".to_owned()));
        }
    };
    if let Some(via) = table.via
        && via.is_ipv4() != to.is_ipv4()
    {
        return Err(wrong(format!("{to} and {via} are of different families")));
    }
    Ok(RouteConfig {
        to,
        via: table.via,
        metric: table.metric,
    })
}
