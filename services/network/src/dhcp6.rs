//! DHCPv6 on one link, with mozim: a task that reports each lease.
//!
//! It runs where a router advertisement says that addresses come from DHCPv6.
//! mozim asks for an address (and DNS, search domains and time servers with
//! it), not for these alone: where advertisements give addresses, they give DNS
//! too (RFC 8106), and that is where it is taken from.
//!
//! The client's identifier (DUID) is made of the link's hardware address. The
//! number of the identity association mozim throws anew for each exchange from
//! the beginning, so a server then gives another address. Hence a lease that
//! runs is taken up where it was; only after a reboot the address is another.

use std::net::Ipv6Addr;
use std::time::Duration;

use mozim::{
    DhcpError, DhcpV6Client, DhcpV6Config, DhcpV6Duid, DhcpV6IaType, DhcpV6Lease, DhcpV6Mode,
    DhcpV6State,
};
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, spawn};

use crate::advertisement::is_domain;
use crate::clock;
use crate::learned::{Lease6, remaining};
use config::value::Mac;

/// A lease for the link with this index.
pub type Leased = (u32, Lease6);

/// Starts to ask from the link-local address `local`, or goes on with a lease
/// that runs. Must be called within the runtime.
pub fn start(
    index: u32,
    name: &str,
    mac: Mac,
    local: Ipv6Addr,
    running: Option<Lease6>,
    leased: Sender<Leased>,
) -> AbortHandle {
    let name = name.to_owned();
    spawn(async move {
        let mut running = running;
        loop {
            match ask(index, &name, mac, local, running.take(), &leased).await {
                Err(error) => {
                    log::warn!("{name}: DHCPv6: {error}");
                    tokio::time::sleep(RETRY).await;
                }
                Ok(state) => log::info!("{name}: no answer to DHCPv6 while {state}; asking anew"),
            }
        }
    })
    .abort_handle()
}

/// After an error that is none of the network's.
const RETRY: Duration = Duration::from_secs(10);
/// How long a request that should be confirmed may take. The library does not
/// hear refusals.
const PATIENCE: Duration = Duration::from_secs(30);

/// Asks and reports leases until an error, or until a state has lasted for too
/// long, which it returns.
async fn ask(
    index: u32,
    name: &str,
    mac: Mac,
    local: Ipv6Addr,
    running: Option<Lease6>,
    leased: &Sender<Leased>,
) -> Result<DhcpV6State, DhcpError> {
    let mut config = DhcpV6Config::new(name, DhcpV6Mode::NonTemporaryAddresses);
    config.set_iface_index(index);
    config.set_link_local_ip(local);
    config.set_duid_by_iface_mac(&mac.0);
    let mut client = DhcpV6Client::init(config, None).await?;
    let mut state = DhcpV6State::Solicit;
    if let Some(lease) = running {
        let lease = resume(&lease);
        client.done(lease.clone())?;
        state = DhcpV6State::Done(Box::new(lease));
    }
    loop {
        let run = client.run();
        state = match state {
            DhcpV6State::Request | DhcpV6State::Rebind => {
                match tokio::time::timeout(PATIENCE, run).await {
                    Ok(next) => next?,
                    Err(_) => return Ok(state),
                }
            }
            // Solicit goes on for ever, Renew ends at T2. (The library's
            // enumeration is open, so no state can be named here.)
            _ => run.await?,
        };
        if let DhcpV6State::Done(lease) = &state {
            let _ = leased.send((index, read(lease))).await;
        }
    }
}

/// Our lease as mozim's, with the times that are left. mozim wants
/// 0 < T1 <= T2 <= valid and preferred <= valid.
fn resume(lease: &Lease6) -> DhcpV6Lease {
    let spent = clock::now().saturating_sub(lease.obtained);
    let mut resumed = DhcpV6Lease::default();
    resumed.ia_type = Some(DhcpV6IaType::NonTemporaryAddresses);
    resumed.iaid = lease.association;
    resumed.address = lease.address;
    resumed.srv_duid = DhcpV6Duid::Raw(lease.server.clone());
    resumed.t1_sec = remaining(lease.renew, spent).max(1);
    resumed.t2_sec = remaining(lease.rebind, spent).max(resumed.t1_sec);
    resumed.valid_time_sec = remaining(lease.valid, spent).max(resumed.t2_sec);
    resumed.preferred_time_sec = remaining(lease.preferred, spent).min(resumed.valid_time_sec);
    resumed
}

/// RFC 8415.
const SERVER_IDENTIFIER: u16 = 2;
/// RFC 3646.
const DNS_SERVERS: u16 = 23;

/// mozim's lease as ours, obtained now.
fn read(lease: &DhcpV6Lease) -> Lease6 {
    // Code and length, 2 bytes each, come before the content.
    let options = |code| {
        let options = lease.get_option_raw(code).unwrap_or_default();
        options
            .into_iter()
            .filter_map(|option| option.get(4..).map(<[u8]>::to_vec))
    };
    Lease6 {
        address: lease.address,
        association: lease.iaid,
        server: options(SERVER_IDENTIFIER).next().unwrap_or_default(),
        obtained: clock::now(),
        renew: lease.t1_sec,
        rebind: lease.t2_sec,
        preferred: lease.preferred_time_sec,
        valid: lease.valid_time_sec,
        dns: options(DNS_SERVERS)
            .flat_map(|content| {
                let (servers, _) = content.as_chunks::<16>();
                servers
                    .iter()
                    .copied()
                    .map(Ipv6Addr::from)
                    .collect::<Vec<_>>()
            })
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_running_lease_can_be_resumed() {
        for age in [0, 60, 99] {
            let lease = Lease6 {
                address: Ipv6Addr::LOCALHOST,
                association: 7,
                server: vec![0, 3, 0, 1, 2, 0, 0, 0, 0, 1],
                obtained: clock::now().saturating_sub(age),
                renew: 50,
                rebind: 80,
                preferred: 90,
                valid: 100,
                dns: vec![],
                search: vec![],
                ntp: vec![],
            };
            let mut config = DhcpV6Config::new("eth0", DhcpV6Mode::NonTemporaryAddresses);
            config.set_iface_index(1);
            config.set_link_local_ip(Ipv6Addr::LOCALHOST);
            let mut client = DhcpV6Client::init(config, None).await.unwrap();
            client.done(resume(&lease)).unwrap();
        }
    }
}
