//! DHCPv4 on one link, with mozim: a task that reports each lease.
//!
//! What mozim 0.3 does not do is done around it, each where it says so:
//! - it waits up to 200 ms before the first packet ([`skip_initial_delay`]);
//! - it hears no DHCPNAK, and would go on asking for the refused address
//!   ([`patience`]);
//! - it cannot ask for the address of an earlier lease (INIT-REBOOT). A lease
//!   that is still running is taken up where it was; after a reboot it asks
//!   anew, and servers give a known client its address again.
//!
//! The task ends never; it is aborted when the link loses its carrier. When a
//! lease ends is not its business: whoever holds the lease counts its time, and
//! an address stays in use while the task asks for another.

use std::future::Future;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use mozim::{DhcpError, DhcpV4Client, DhcpV4Config, DhcpV4Lease, DhcpV4State};
use tokio::sync::mpsc::Sender;
use tokio::task::{AbortHandle, spawn};

use crate::advertisement::{domains, is_domain};
use crate::clock;
use crate::learned::{ClasslessRoute, Lease4, remaining};
use config::value::Mac;
use ipnet::IpNet;

/// A lease for the link with this index.
pub type Leased = (u32, Lease4);

/// Starts to ask, or goes on with a lease that runs. Must be called within the
/// runtime.
pub fn start(
    index: u32,
    name: &str,
    mac: Mac,
    running: Option<Lease4>,
    leased: Sender<Leased>,
) -> AbortHandle {
    let name = name.to_owned();
    spawn(async move {
        let mut running = running;
        loop {
            let end = ask(index, &name, mac, running.take(), &leased).await;
            match end {
                Err(error) => {
                    log::warn!("{name}: DHCPv4: {error}");
                    tokio::time::sleep(RETRY).await;
                }
                Ok(state) => log::info!("{name}: no answer to DHCPv4 while {state}; asking anew"),
            }
        }
    })
    .abort_handle()
}

/// After an error that is none of the network's (no memory, no such link):
/// often enough that nobody waits for long, seldom enough for the log.
const RETRY: Duration = Duration::from_secs(5);

/// Asks and reports leases until an error, or until a state has lasted for too
/// long, which it returns.
async fn ask(
    index: u32,
    name: &str,
    mac: Mac,
    running: Option<Lease4>,
    leased: &Sender<Leased>,
) -> Result<DhcpV4State, DhcpError> {
    let mut config = DhcpV4Config::new(name);
    config.set_iface_index(index);
    config.set_iface_mac_raw(&mac.0)?;
    config.use_mac_as_client_id();
    config.request_extra_dhcp_opts(&[DOMAIN_SEARCH]);
    let mut client = DhcpV4Client::init(config, None).await?;
    let mut state = DhcpV4State::InitReboot;
    if let Some(lease) = running {
        let lease = resume(&lease);
        client.done(lease.clone())?;
        state = DhcpV4State::Done(Box::new(lease));
    }
    loop {
        let mut run = Box::pin(client.run());
        if matches!(state, DhcpV4State::InitReboot) {
            skip_initial_delay(run.as_mut()).await;
        }
        state = match patience(&state) {
            None => run.await?,
            Some(patience) => match tokio::time::timeout(patience, run).await {
                Ok(next) => next?,
                Err(_) => return Ok(state),
            },
        };
        if let DhcpV4State::Done(lease) = &state {
            let _ = leased.send((index, read(lease))).await;
        }
    }
}

/// For how long a state may last. Asking goes on for ever; but a server that
/// does not confirm what it offered, or a running lease, has perhaps refused
/// it, and mozim does not hear that.
fn patience(state: &DhcpV4State) -> Option<Duration> {
    match state {
        DhcpV4State::InitReboot | DhcpV4State::Done(_) => None,
        // Two requests: mozim sends the second after 3 to 5 s.
        DhcpV4State::Selecting => Some(Duration::from_secs(8)),
        // Ends by itself when T2 has come.
        DhcpV4State::Renewing => None,
        // T1 and T2 are over without an answer. The address is kept while it
        // is asked for anew: its server may be back, or there is another.
        DhcpV4State::Rebinding => Some(Duration::from_secs(10)),
    }
}

/// mozim sleeps for a random time of up to 200 ms before its first packet, so
/// that a hall of machines does not ask in one instant when the power comes
/// back. The machines' own boot times differ by more than that, and here each
/// of these milliseconds is the operator's.
///
/// The library has no switch for it, so the runtime's clock is put forward by
/// as much, once its sleep is known to the clock. Other timers of this program
/// end earlier by that much, which does them no harm.
async fn skip_initial_delay(mut run: Pin<&mut impl Future>) {
    const LONGEST: Duration = Duration::from_millis(200);
    // Polled with this task's own waker: nothing is lost when it is awaited.
    std::future::poll_fn(|context| {
        let _ = run.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
    tokio::time::pause();
    let mut advance = Box::pin(tokio::time::advance(LONGEST));
    std::future::poll_fn(|context| {
        // The first poll moves the clock; what follows only yields.
        let _ = advance.as_mut().poll(context);
        Poll::Ready(())
    })
    .await;
    tokio::time::resume();
}

/// RFC 3397.
const DOMAIN_SEARCH: u8 = 119;

/// mozim's lease as ours, obtained now.
fn read(lease: &DhcpV4Lease) -> Lease4 {
    let length = match lease.prefix_length() {
        0 => classful(lease.yiaddr),
        length => length,
    };
    let mut search: Vec<String> = lease
        .get_option_raw(DOMAIN_SEARCH)
        .and_then(|raw| raw.get(2..).map(domains))
        .unwrap_or_default();
    if search.is_empty() {
        // One name by RFC 2132; servers are known to put several there.
        search = lease
            .domain_name
            .iter()
            .flat_map(|names| names.split_whitespace())
            .map(|name| name.trim_end_matches('\0').to_owned())
            .filter(|name| is_domain(name))
            .collect();
    }
    let address = lease.yiaddr.into();
    Lease4 {
        address: IpNet::new(address, length).unwrap_or(IpNet::from(address)),
        server: lease.srv_id,
        obtained: clock::now(),
        renew: lease.t1_sec,
        rebind: lease.t2_sec,
        lifetime: lease.lease_time_sec,
        routers: lease.gateways.clone().unwrap_or_default(),
        classless_routes: lease.classless_routes.as_ref().map(|routes| {
            routes
                .iter()
                .filter_map(|route| {
                    Some(ClasslessRoute {
                        to: IpNet::new(route.destination.into(), route.prefix_length).ok()?,
                        via: route.router,
                    })
                })
                .collect()
        }),
        dns: lease.dns_srvs.clone().unwrap_or_default(),
        search,
        ntp: lease.ntp_srvs.clone().unwrap_or_default(),
        host_name: lease.host_name.clone().filter(|name| is_domain(name)),
        mtu: lease.mtu,
    }
}

/// The prefix length of an address whose server did not give one (RFC 2132,
/// section 3.3 makes it optional).
fn classful(address: Ipv4Addr) -> u8 {
    match address.octets()[0] {
        0..128 => 8,
        128..192 => 16,
        192.. => 24,
    }
}

/// Our lease as mozim's, with the times that are left. mozim wants
/// 0 < T1 < T2 < lifetime.
fn resume(lease: &Lease4) -> DhcpV4Lease {
    let spent = clock::now().saturating_sub(lease.obtained);
    let renew = remaining(lease.renew, spent).max(1);
    let rebind = remaining(lease.rebind, spent).max(renew.saturating_add(1));
    let mut resumed = DhcpV4Lease::default();
    resumed.yiaddr = match lease.address.addr() {
        std::net::IpAddr::V4(address) => address,
        std::net::IpAddr::V6(_) => Ipv4Addr::UNSPECIFIED,
    };
    resumed.siaddr = lease.server;
    resumed.srv_id = lease.server;
    resumed.t1_sec = renew;
    resumed.t2_sec = rebind;
    resumed.lease_time_sec = remaining(lease.lifetime, spent).max(rebind.saturating_add(1));
    resumed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::learned::FOREVER;

    fn lease(renew: u32, rebind: u32, lifetime: u32, age: u64) -> Lease4 {
        Lease4 {
            address: "10.0.2.15/24".parse().unwrap(),
            server: Ipv4Addr::new(10, 0, 2, 2),
            obtained: clock::now() - age.min(clock::now()),
            renew,
            rebind,
            lifetime,
            routers: vec![],
            classless_routes: None,
            dns: vec![],
            search: vec![],
            ntp: vec![],
            host_name: None,
            mtu: None,
        }
    }

    #[tokio::test]
    async fn every_running_lease_can_be_resumed() {
        for lease in [
            lease(50, 80, 100, 0),
            lease(50, 80, 100, 60),
            lease(50, 80, 100, 99),
            lease(FOREVER / 2, FOREVER / 8 * 7, FOREVER, 10),
        ] {
            let resumed = resume(&lease);
            let mut client = DhcpV4Client::default();
            client.done(resumed).unwrap();
        }
    }

    #[tokio::test]
    async fn the_initial_delay_is_skipped_and_the_clock_goes_on() {
        let delay = Duration::from_millis(199);
        let start = tokio::time::Instant::now();
        let mut sleep = Box::pin(tokio::time::sleep(delay));
        skip_initial_delay(sleep.as_mut()).await;
        // By the runtime's clock, the only one that the library's sleep knows.
        assert!(start.elapsed() >= delay);
        sleep.await;
        let start = std::time::Instant::now();
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(start.elapsed() >= Duration::from_millis(20));
    }

    #[test]
    fn an_address_without_a_mask_gets_its_class() {
        assert_eq!(classful(Ipv4Addr::new(10, 0, 0, 1)), 8);
        assert_eq!(classful(Ipv4Addr::new(172, 16, 0, 1)), 16);
        assert_eq!(classful(Ipv4Addr::new(192, 168, 0, 1)), 24);
    }
}
