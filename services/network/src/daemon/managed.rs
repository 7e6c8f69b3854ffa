//! A link in our care: what was learned on it, and its DHCP clients.

use std::net::Ipv6Addr;
use std::path::Path;

use tokio::sync::mpsc::Sender;
use tokio::task::AbortHandle;

use crate::clock;
use crate::config::{Ipv6, LinkConfig};
use crate::learned::{Announced, Learned, Lease4, Lease6};
use crate::plan::Link;
use crate::{dhcp4, dhcp6};

/// The longest file of leases that is read, in bytes: what is learned is bounded.
const LONGEST: usize = 256 * 1024;

pub struct Managed {
    pub name: String,
    pub learned: Learned,
    /// It was told that routers announce more than is taken.
    pub has_left_out: bool,
    /// What the file holds.
    kept: Learned,
    /// Leases of an earlier run of this service, to go on with.
    running4: Option<Lease4>,
    running6: Option<Lease6>,
    dhcp4: Option<AbortHandle>,
    dhcp6: Option<AbortHandle>,
}

impl Managed {
    /// Takes on a link, with what an earlier run of this service knew of it.
    pub fn meet(link: &Link, lease_file: &Path) -> Self {
        let mac = link.mac.map(|mac| mac.to_string()).unwrap_or_default();
        let kept = config::read(lease_file, LONGEST)
            .ok()
            .flatten()
            .and_then(|text| serde_json::from_str::<Learned>(&text).ok())
            // Another card with the same name, or times of another boot.
            .filter(|kept| kept.mac == mac && !is_of_the_future(kept))
            .unwrap_or_default();
        let mut learned = Learned {
            mac,
            ..kept.clone()
        };
        learned.expire(clock::now());
        Self {
            name: link.name.clone(),
            // Without a carrier nobody knows where the cable will be put next.
            running4: learned.dhcp4.clone().filter(|_| link.carrier),
            running6: learned.dhcp6.clone().filter(|_| link.carrier),
            learned,
            has_left_out: false,
            kept,
            dhcp4: None,
            dhcp6: None,
        }
    }

    /// Drops what a changed configuration no longer asks for.
    pub fn forget_unwanted(&mut self, config: &LinkConfig) {
        if !config.dhcp4 {
            self.learned.dhcp4 = None;
        }
        if config.ipv6 != Ipv6::Auto {
            self.learned.dhcp6 = None;
            self.learned.announced = Announced::default();
        }
    }

    /// Runs a DHCPv4 client while there is a carrier. With each new carrier it
    /// asks anew, for the other end may be another network; a running lease
    /// stays in use until it has ended or another has come.
    pub fn ask4(&mut self, link: &Link, config: &LinkConfig, leased: &Sender<dhcp4::Leased>) {
        let mac = link.mac.filter(|_| config.dhcp4 && link.carrier);
        match (mac, &self.dhcp4) {
            (Some(mac), None) => {
                let running = self.running4.take();
                let client = dhcp4::start(link.index, &link.name, mac, running, leased.clone());
                self.dhcp4 = Some(client);
            }
            (None, Some(client)) => {
                client.abort();
                self.dhcp4 = None;
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Runs a DHCPv6 client while router advertisements say so.
    pub fn ask6(
        &mut self,
        link: &Link,
        config: &LinkConfig,
        local: Option<Ipv6Addr>,
        leased: &Sender<dhcp6::Leased>,
    ) {
        let wanted = config.ipv6 == Ipv6::Auto && link.carrier && link.dhcp6_announced;
        match (link.mac.zip(local).filter(|_| wanted), &self.dhcp6) {
            (Some((mac, local)), None) => {
                let running = self.running6.take();
                let client =
                    dhcp6::start(link.index, &link.name, mac, local, running, leased.clone());
                self.dhcp6 = Some(client);
            }
            (None, Some(client)) => {
                client.abort();
                self.dhcp6 = None;
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
    }

    /// Writes what was learned to the file, where it is new.
    pub fn keep(&mut self, lease_file: &Path) {
        if self.kept == self.learned {
            return;
        }
        let written = serde_json::to_vec(&self.learned)
            .map_err(std::io::Error::from)
            .and_then(|json| atomic_file::replace_volatile(lease_file, &json));
        match written {
            Ok(()) => self.kept = self.learned.clone(),
            Err(error) => log::error!("{}: {error}", lease_file.display()),
        }
    }

    /// Ends the clients.
    pub fn stop(&mut self) {
        for client in [self.dhcp4.take(), self.dhcp6.take()].into_iter().flatten() {
            client.abort();
        }
    }
}

/// Whether a lease was obtained later than now: its clock was another boot's.
fn is_of_the_future(learned: &Learned) -> bool {
    let now = clock::now();
    let lease4 = learned.dhcp4.as_ref().map(|lease| lease.obtained);
    let lease6 = learned.dhcp6.as_ref().map(|lease| lease.obtained);
    lease4
        .into_iter()
        .chain(lease6)
        .any(|obtained| obtained > now)
}
