//! DHCPv6 on one link, with mozim: a task that reports each lease.
//!
//! It runs where a router advertisement says that addresses come from DHCPv6.
//! mozim asks for an address (and DNS, search domains and time servers with
//! it), not for these alone: where advertisements give addresses, they give DNS
//! too (RFC 8106), and that is where it is taken from.
//!
//! The link's address for DHCPv6 (DUID) is made of its hardware address, and
//! the identity association is always the same, so a server gives the same
//! address after a restart: there is no need to go on with a running lease.

use std::net::Ipv6Addr;
use std::time::Duration;

use mozim::{DhcpError, DhcpV6Client, DhcpV6Config, DhcpV6Lease, DhcpV6Mode, DhcpV6State};
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, spawn};

use crate::advertisement::is_domain;
use crate::clock;
use crate::config::Mac;
use crate::learned::Lease6;

/// A lease for the link with this index.
pub type Leased = (u32, Lease6);

/// Starts to ask. `local` is the link-local address to ask from. Must be called
/// within the runtime.
pub fn start(
    index: u32,
    name: &str,
    mac: Mac,
    local: Ipv6Addr,
    leased: Sender<Leased>,
) -> AbortHandle {
    let name = name.to_owned();
    spawn(async move {
        loop {
            let Err(error) = ask(index, &name, mac, local, &leased).await else {
                continue;
            };
            log::warn!("{name}: DHCPv6: {error}");
            tokio::time::sleep(RETRY).await;
        }
    })
    .abort_handle()
}

/// After an error that is none of the network's.
const RETRY: Duration = Duration::from_secs(10);
/// A server that does not confirm what it advertised has perhaps gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks and reports leases until an error, or until a request was not answered.
async fn ask(
    index: u32,
    name: &str,
    mac: Mac,
    local: Ipv6Addr,
    leased: &Sender<Leased>,
) -> Result<(), DhcpError> {
    let mut config = DhcpV6Config::new(name, DhcpV6Mode::NonTemporaryAddresses);
    config.set_iface_index(index);
    config.set_link_local_ip(local);
    config.set_duid_by_iface_mac(&mac.0);
    let mut client = DhcpV6Client::init(config, None).await?;
    let mut requested = false;
    loop {
        let run = client.run();
        let state = if requested {
            match tokio::time::timeout(PATIENCE, run).await {
                Ok(state) => state?,
                Err(_) => return Ok(()),
            }
        } else {
            run.await?
        };
        requested = matches!(state, DhcpV6State::Request);
        if let DhcpV6State::Done(lease) = &state {
            let _ = leased.send((index, read(lease))).await;
        }
    }
}

/// RFC 3646.
const DNS_SERVERS: u16 = 23;

/// mozim's lease as ours, obtained now.
fn read(lease: &DhcpV6Lease) -> Lease6 {
    let servers = lease.get_option_raw(DNS_SERVERS).unwrap_or_default();
    Lease6 {
        address: lease.address,
        obtained: clock::now(),
        renew: lease.t1_sec,
        preferred: lease.preferred_time_sec,
        valid: lease.valid_time_sec,
        dns: servers
            .iter()
            // Code and length come first.
            .flat_map(|option| option.get(4..).unwrap_or_default().as_chunks::<16>().0)
            .map(|bytes| Ipv6Addr::from(*bytes))
            .collect(),
        search: lease
            .domain_list
            .iter()
            .map(|domain| domain.trim_end_matches('.').to_owned())
            .filter(|domain| is_domain(domain))
            .collect(),
        ntp: lease
            .ntp_srvs
            .iter()
            .filter(|server| server.parse::<Ipv6Addr>().is_ok() || is_domain(server))
            .cloned()
            .collect(),
    }
}
