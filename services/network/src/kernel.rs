//! The thin shell around rtnetlink: reads the kernel's state, performs one
//! change. Decides nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, CacheInfo,
};
use rtnetlink::packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, Inet6IfaceFlags, LinkAttribute, LinkExtentMask,
    LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
    RouteType,
};
use rtnetlink::{Handle, LinkUnspec, RouteMessageBuilder};

use crate::learned::FOREVER;
use crate::plan::{Address, Change, Link, Owner, Route, RouteOwner, WantedAddress, WantedRoute};
use crate::prefix;
use config::value::Mac;
use ipnet::IpNet;

/// The mark (`IFA_PROTO`, and the routes' protocol) of what the configuration
/// and DHCPv6 made. A number that /etc/iproute2/rt_protos gives to nobody;
/// routes from DHCP carry the number that is there for them.
pub const OURS: u8 = 87;

/// Everything that the plans are made from.
#[derive(Debug, Default)]
pub struct Snapshot {
    pub links: Vec<Link>,
    /// With the index of the link.
    pub addresses: Vec<(u32, Address)>,
    /// With the index of the link.
    pub routes: Vec<(u32, Route)>,
}

impl Snapshot {
    pub fn addresses_of(&self, index: u32) -> Vec<Address> {
        of(index, &self.addresses)
    }

    pub fn routes_of(&self, index: u32) -> Vec<Route> {
        of(index, &self.routes)
    }

    /// The link-local IPv6 address of a link once it can be used.
    pub fn link_local(&self, index: u32) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|(link, address)| {
            let usable = *link == index
                && prefix::is_link_local(address.prefix.addr())
                && !address.tentative
                && !address.duplicate;
            match address.prefix.addr() {
                IpAddr::V6(address) if usable => Some(address),
                IpAddr::V6(_) | IpAddr::V4(_) => None,
            }
        })
    }
}

fn of<T: Clone>(index: u32, items: &[(u32, T)]) -> Vec<T> {
    items
        .iter()
        .filter(|(link, _)| *link == index)
        .map(|(_, item)| item.clone())
        .collect()
}

/// A request that the kernel refused.
#[derive(Debug)]
pub struct KernelError {
    /// What was asked for, in words.
    step: String,
    source: rtnetlink::Error,
}

impl fmt::Display for KernelError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.source {
            rtnetlink::Error::NetlinkError(error) => {
                write!(out, "cannot {}: {}", self.step, error.to_io())
            }
            other => write!(out, "cannot {}: {other}", self.step),
        }
    }
}

impl std::error::Error for KernelError {}

fn failed(step: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> KernelError {
    let step = step.into();
    move |source| KernelError { step, source }
}

/// A connection to the kernel, served by a task of the runtime.
#[derive(Clone)]
pub struct Kernel {
    handle: Handle,
}

/// How many routes of others are looked at. Each router advertisement can add
/// one, and whoever is on the link can send any number of them.
const MOST_ROUTES: usize = 4096;

impl Kernel {
    /// Must be called within the runtime.
    pub fn connect() -> std::io::Result<Self> {
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    /// The state now.
    pub async fn snapshot(&self) -> Result<Snapshot, KernelError> {
        Ok(Snapshot {
            links: self.links().await?,
            addresses: self.addresses().await?,
            routes: self.routes().await?,
        })
    }

    async fn links(&self) -> Result<Vec<Link>, KernelError> {
        self.handle
            .link()
            .get()
            .set_filter_mask(Default::default(), vec![LinkExtentMask::SkipStats])
            .execute()
            .try_filter_map(async |message| Ok(read_link(&message)))
            .try_collect()
            .await
            .map_err(failed("list the links"))
    }

    async fn addresses(&self) -> Result<Vec<(u32, Address)>, KernelError> {
        self.handle
            .address()
            .get()
            .execute()
            .try_filter_map(async |message| Ok(read_address(&message)))
            .try_collect()
            .await
            .map_err(failed("list the addresses"))
    }

    async fn routes(&self) -> Result<Vec<(u32, Route)>, KernelError> {
        let mut others = 0;
        // The default message names no family: those of both come at once.
        self.handle
            .route()
            .get(RouteMessage::default())
            .execute()
            .try_filter_map(|message| {
                let route = read_route(&message).filter(|(_, route)| {
                    let is_ours =
                        matches!(route.owner, RouteOwner::OursDhcp | RouteOwner::OursStatic);
                    others += usize::from(!is_ours);
                    is_ours || others <= MOST_ROUTES
                });
                std::future::ready(Ok(route))
            })
            .try_collect()
            .await
            .map_err(failed("list the routes"))
    }

    /// Lets the link carry packets.
    pub async fn set_up(&self, link: &Link) -> Result<(), KernelError> {
        self.handle
            .link()
            .set(LinkUnspec::new_with_index(link.index).up().build())
            .execute()
            .await
            .map_err(failed(format!("set {} up", link.name)))
    }

    /// Keeps the kernel from making a link-local IPv6 address.
    pub async fn without_ipv6(&self, link: &Link) -> Result<(), KernelError> {
        let message = LinkUnspec::new_with_index(link.index)
            .append_extra_attribute(LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(
                vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)],
            )]))
            .build();
        self.handle
            .link()
            .set(message)
            .execute()
            .await
            .map_err(failed(format!("turn IPv6 off on {}", link.name)))
    }

    /// Performs one change on a link.
    pub async fn perform(&self, link: &Link, change: &Change) -> Result<(), KernelError> {
        let name = &link.name;
        match change {
            Change::SetMtu(mtu) => self
                .handle
                .link()
                .set(LinkUnspec::new_with_index(link.index).mtu(*mtu).build())
                .execute()
                .await
                .map_err(failed(format!("set the MTU of {name} to {mtu}"))),
            Change::RemoveRoute(route) => self
                .handle
                .route()
                .del(route_message(link, &removal(route), protocol(route.owner)))
                .execute()
                .await
                .map_err(failed(format!(
                    "remove the route to {} from {name}",
                    route.to
                ))),
            Change::RemoveAddress(prefix) => {
                let step = format!("remove the address {prefix} from {name}");
                let mut request =
                    self.handle
                        .address()
                        .add(link.index, prefix.addr(), prefix.prefix_len());
                let message = std::mem::take(request.message_mut());
                self.handle
                    .address()
                    .del(message)
                    .execute()
                    .await
                    .map_err(failed(step))
            }
            Change::PutAddress(address) => {
                let mut request = self
                    .handle
                    .address()
                    .add(
                        link.index,
                        address.prefix.addr(),
                        address.prefix.prefix_len(),
                    )
                    .replace();
                complete(request.message_mut(), address);
                request.execute().await.map_err(failed(format!(
                    "give {name} the address {}",
                    address.prefix
                )))
            }
            Change::AddRoute(route) => {
                let protocol = match route.dhcp {
                    true => RouteProtocol::Dhcp,
                    false => RouteProtocol::Other(OURS),
                };
                self.handle
                    .route()
                    .add(route_message(link, route, protocol))
                    .execute()
                    .await
                    .map_err(failed(format!("add the route to {} over {name}", route.to)))
            }
        }
    }
}

fn read_link(message: &LinkMessage) -> Option<Link> {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mac: None,
        // Ethernet that no software made: drivers of hardware give no kind.
        physical: message.header.link_layer_type == LinkLayerType::Ether
            && !flags.contains(LinkFlags::Loopback),
        up: flags.contains(LinkFlags::Up),
        carrier: flags.contains(LinkFlags::Up | LinkFlags::LowerUp),
        mtu: 0,
        dhcp6_announced: false,
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => {
                link.mac = mac.as_slice().try_into().ok().map(Mac);
            }
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            // A part of another link (bond, bridge, a hypervisor's link with
            // its fast path), which has the addresses.
            LinkAttribute::Controller(_) => link.physical = false,
            LinkAttribute::LinkInfo(infos)
                if infos.iter().any(|info| matches!(info, LinkInfo::Kind(_))) =>
            {
                link.physical = false;
            }
            LinkAttribute::AfSpecUnspec(families) => {
                for inet6 in families.iter().filter_map(|family| match family {
                    AfSpecUnspec::Inet6(inet6) => Some(inet6),
                    _ => None,
                }) {
                    link.dhcp6_announced = inet6.iter().any(|attribute| {
                        matches!(attribute, AfSpecInet6::Flags(flags)
                            if flags.contains(Inet6IfaceFlags::RaManaged))
                    });
                }
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

fn read_address(message: &AddressMessage) -> Option<(u32, Address)> {
    let mut address = None;
    let mut local = None;
    let mut owner = Owner::Other;
    let mut valid = FOREVER;
    let mut flags = AddressFlags::empty();
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Address(ip) => address = Some(*ip),
            // On a link to one peer `Address` is the peer's.
            AddressAttribute::Local(ip) => local = Some(*ip),
            AddressAttribute::Protocol(protocol) => {
                owner = match protocol {
                    AddressProtocol::RouterAnnouncement => Owner::Router,
                    AddressProtocol::LinkLocal => Owner::LinkLocal,
                    AddressProtocol::Other(OURS) => Owner::Ours,
                    _ => Owner::Other,
                };
            }
            AddressAttribute::CacheInfo(info) => valid = info.ifa_valid,
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    let prefix = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some((
        message.header.index,
        Address {
            prefix,
            owner,
            valid,
            // Optimistic: it may be used while the detection goes on.
            tentative: flags.contains(AddressFlags::Tentative)
                && !flags.contains(AddressFlags::Optimistic),
            duplicate: flags.contains(AddressFlags::Dadfailed),
        },
    ))
}

fn read_route(message: &RouteMessage) -> Option<(u32, Route)> {
    let header = &message.header;
    if header.table != RouteHeader::RT_TABLE_MAIN || header.kind != RouteType::Unicast {
        return None;
    }
    let mut link = None;
    let mut to = None;
    let mut via = None;
    let mut source = None;
    let mut metric = 0;
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Destination(address) => to = ip(address),
            RouteAttribute::Gateway(address) => via = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    let any = match header.address_family {
        AddressFamily::Inet => prefix::DEFAULT_V4,
        AddressFamily::Inet6 => prefix::DEFAULT_V6,
        _ => return None,
    };
    let to = IpNet::new(to.unwrap_or(any.addr()), header.destination_prefix_length).ok()?;
    Some((
        link?,
        Route {
            to,
            via,
            source,
            metric,
            owner: match header.protocol {
                RouteProtocol::Dhcp => RouteOwner::OursDhcp,
                RouteProtocol::Other(OURS) => RouteOwner::OursStatic,
                RouteProtocol::Ra => RouteOwner::Router,
                RouteProtocol::Kernel => RouteOwner::Kernel,
                _ => RouteOwner::Other,
            },
        },
    ))
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}

/// Adds lifetimes and our mark.
fn complete(message: &mut AddressMessage, address: &WantedAddress) {
    let mut info = CacheInfo::default();
    info.ifa_valid = address.valid;
    info.ifa_preferred = address.preferred;
    message.attributes.push(AddressAttribute::CacheInfo(info));
    message
        .attributes
        .push(AddressAttribute::Protocol(AddressProtocol::Other(OURS)));
    if !address.prefix.addr().is_ipv4() {
        // Usable before the second that duplicate address detection takes.
        message
            .attributes
            .push(AddressAttribute::Flags(AddressFlags::Optimistic));
    }
}

fn protocol(owner: RouteOwner) -> RouteProtocol {
    match owner {
        RouteOwner::OursDhcp => RouteProtocol::Dhcp,
        RouteOwner::OursStatic => RouteProtocol::Other(OURS),
        RouteOwner::Router => RouteProtocol::Ra,
        RouteOwner::Kernel => RouteProtocol::Kernel,
        RouteOwner::Other => RouteProtocol::Unspec,
    }
}

/// The route as it would have been wanted, to name it when it is removed.
fn removal(route: &Route) -> WantedRoute {
    WantedRoute {
        to: route.to,
        via: route.via,
        source: route.source,
        metric: route.metric,
        dhcp: false,
        onlink: false,
    }
}

fn route_message(link: &Link, route: &WantedRoute, protocol: RouteProtocol) -> RouteMessage {
    let mut message = match route.to.addr() {
        IpAddr::V4(_) => RouteMessageBuilder::<Ipv4Addr>::new().build(),
        IpAddr::V6(_) => RouteMessageBuilder::<Ipv6Addr>::new().build(),
    };
    message.header.protocol = protocol;
    message.header.destination_prefix_length = route.to.prefix_len();
    if route.via.is_none() && route.to.addr().is_ipv4() {
        message.header.scope = RouteScope::Link;
    }
    if route.onlink {
        message.header.flags.insert(RouteFlags::Onlink);
    }
    let attributes = &mut message.attributes;
    if route.to.prefix_len() > 0 {
        attributes.push(RouteAttribute::Destination(route.to.addr().into()));
    }
    attributes.push(RouteAttribute::Oif(link.index));
    attributes.push(RouteAttribute::Priority(route.metric));
    if let Some(via) = route.via {
        attributes.push(RouteAttribute::Gateway(via.into()));
    }
    if let Some(source) = route.source {
        attributes.push(RouteAttribute::PrefSource(source.into()));
    }
    message
}
