//! What the network told us about one link: leases and announced DNS.
//!
//! It is kept in `/run/network/leases/<link>.json`, so that a restart of the
//! service goes on with it and nobody notices. All moments are seconds of
//! CLOCK_BOOTTIME: nothing jumps when the clock is set, and the file does not
//! outlive the boot that they count from.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

use ipnet::IpNet;

/// Seconds since the kernel started.
pub type Moment = u64;

/// A lifetime of this many seconds never ends (RFC 2131, RFC 8415, RFC 8106).
pub const FOREVER: u32 = u32::MAX;

/// How many of each are taken from the network, on one link. Whoever is on the
/// link can offer any number; nobody needs more of them.
pub mod most {
    /// DNS servers and time servers: a resolver asks the first three.
    pub const SERVERS: usize = 8;
    /// Search domains.
    pub const DOMAINS: usize = 16;
    /// Routers, of which the first that works is used.
    pub const ROUTERS: usize = 8;
    /// Routes of a lease.
    pub const ROUTES: usize = 64;
}

/// All that is known of one link.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Learned {
    /// Whose it is: a name can come to mean another link.
    pub mac: String,
    pub dhcp4: Option<Lease4>,
    pub dhcp6: Option<Lease6>,
    pub announced: Announced,
}

/// A DHCPv4 lease.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease4 {
    pub address: IpNet,
    /// The server identifier; unspecified where it gave none.
    pub server: Ipv4Addr,
    pub obtained: Moment,
    /// Seconds from `obtained` to the first renewal, T1.
    pub renew: u32,
    /// Seconds from `obtained` to rebinding, T2.
    pub rebind: u32,
    /// Seconds from `obtained` to its end.
    pub lifetime: u32,
    pub routers: Vec<Ipv4Addr>,
    /// Option 121 (or 249). Where it is there, `routers` does not count.
    pub classless_routes: Option<Vec<ClasslessRoute>>,
    pub dns: Vec<Ipv4Addr>,
    pub search: Vec<String>,
    pub ntp: Vec<Ipv4Addr>,
    pub host_name: Option<String>,
    pub mtu: Option<u16>,
}

/// One route of option 121. An unspecified `via` is: on the link itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClasslessRoute {
    pub to: IpNet,
    pub via: Ipv4Addr,
}

/// A DHCPv6 address.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lease6 {
    pub address: Ipv6Addr,
    /// Identifies the address to the server (IAID).
    pub association: u32,
    /// The server's DUID.
    pub server: Vec<u8>,
    pub obtained: Moment,
    /// Seconds from `obtained` to the first renewal, T1.
    pub renew: u32,
    /// Seconds from `obtained` to rebinding, T2.
    pub rebind: u32,
    pub preferred: u32,
    pub valid: u32,
    pub dns: Vec<Ipv6Addr>,
    pub search: Vec<String>,
    pub ntp: Vec<String>,
}

/// DNS from router advertisements.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Announced {
    pub dns: Vec<Item<Ipv6Addr>>,
    pub search: Vec<Item<String>>,
}

/// Something announced, and until when it holds; `None` is for ever.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Item<T> {
    pub value: T,
    pub until: Option<Moment>,
}

/// When something ends that was given at a moment for so many seconds.
fn end(from: Moment, seconds: u32) -> Option<Moment> {
    (seconds != FOREVER).then(|| from + Moment::from(seconds))
}

/// Of so many seconds the ones that are left after those that are spent;
/// [`FOREVER`] stays.
pub fn remaining(seconds: u32, spent: Moment) -> u32 {
    if seconds == FOREVER {
        return FOREVER;
    }
    left(Some(seconds.into()), spent)
}

/// The seconds that are left at `now`; [`FOREVER`] stays.
pub fn left(end: Option<Moment>, now: Moment) -> u32 {
    match end {
        None => FOREVER,
        Some(end) => u32::try_from(end.saturating_sub(now)).unwrap_or(FOREVER - 1),
    }
}

impl Lease4 {
    /// Without what is more than a machine needs.
    pub fn bounded(mut self) -> Self {
        self.routers.truncate(most::ROUTERS);
        if let Some(routes) = &mut self.classless_routes {
            routes.truncate(most::ROUTES);
        }
        self.dns.truncate(most::SERVERS);
        self.search.truncate(most::DOMAINS);
        self.ntp.truncate(most::SERVERS);
        self
    }

    pub fn expires(&self) -> Option<Moment> {
        end(self.obtained, self.lifetime)
    }
}

impl Lease6 {
    /// Without what is more than a machine needs.
    pub fn bounded(mut self) -> Self {
        self.dns.truncate(most::SERVERS);
        self.search.truncate(most::DOMAINS);
        self.ntp.truncate(most::SERVERS);
        self
    }

    pub fn expires(&self) -> Option<Moment> {
        end(self.obtained, self.valid)
    }

    pub fn preferred_until(&self) -> Option<Moment> {
        end(self.obtained, self.preferred)
    }
}

impl Announced {
    /// Takes over what an advertisement says. A lifetime of 0 takes it back.
    ///
    /// Those that came first stay: a list that is full takes no others until one
    /// of it has ended, so a flood of advertisements does not push out the servers
    /// that work.
    pub fn take(
        &mut self,
        dns: &[Ipv6Addr],
        search: &[String],
        lifetime: u32,
        now: Moment,
    ) -> Taken {
        let mut taken = Taken::default();
        for server in dns {
            put(
                &mut self.dns,
                most::SERVERS,
                server,
                lifetime,
                now,
                &mut taken,
            );
        }
        for domain in search {
            put(
                &mut self.search,
                most::DOMAINS,
                domain,
                lifetime,
                now,
                &mut taken,
            );
        }
        taken
    }
}

/// What became of an advertisement.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Something is different now.
    pub changed: bool,
    /// Something was left out because a list is full.
    pub left_out: bool,
}

fn put<T: PartialEq + Clone>(
    items: &mut Vec<Item<T>>,
    most: usize,
    value: &T,
    lifetime: u32,
    now: Moment,
    taken: &mut Taken,
) {
    let until = end(now, lifetime);
    match items.iter().position(|item| item.value == *value) {
        Some(known) if lifetime == 0 => {
            items.remove(known);
            taken.changed = true;
        }
        None if lifetime == 0 => {}
        Some(known) => {
            taken.changed |= items[known].until != until;
            items[known].until = until;
        }
        None if items.len() >= most => taken.left_out = true,
        None => {
            items.push(Item {
                value: value.clone(),
                until,
            });
            taken.changed = true;
        }
    }
}

impl Learned {
    /// Drops what has ended by now; whether there was something.
    pub fn expire(&mut self, now: Moment) -> bool {
        let before = self.clone();
        let alive = |end: Option<Moment>| end.is_none_or(|end| now < end);
        self.dhcp4.take_if(|lease| !alive(lease.expires()));
        self.dhcp6.take_if(|lease| !alive(lease.expires()));
        self.announced.dns.retain(|item| alive(item.until));
        self.announced.search.retain(|item| alive(item.until));
        *self != before
    }

    /// When something ends next.
    pub fn next_end(&self) -> Option<Moment> {
        let leases = [
            self.dhcp4.as_ref().and_then(Lease4::expires),
            self.dhcp6.as_ref().and_then(Lease6::expires),
        ];
        let announced = self.announced.dns.iter().map(|item| item.until);
        let search = self.announced.search.iter().map(|item| item.until);
        leases
            .into_iter()
            .chain(announced)
            .chain(search)
            .flatten()
            .min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_ended_is_dropped_and_what_lasts_for_ever_stays() {
        let mut learned = Learned::default();
        let one = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
        let two = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
        learned
            .announced
            .take(&[one], &["example.org".to_owned()], 10, 100);
        learned.announced.take(&[two], &[], FOREVER, 100);
        assert_eq!(learned.next_end(), Some(110));
        assert!(!learned.expire(109));
        assert!(learned.expire(110));
        assert_eq!(learned.announced.dns.len(), 1);
        assert_eq!(learned.announced.dns[0].value, two);
        assert!(learned.announced.search.is_empty());
        assert_eq!(learned.next_end(), None);
    }

    #[test]
    fn an_advertisement_renews_and_takes_back() {
        let mut announced = Announced::default();
        let server = Ipv6Addr::LOCALHOST;
        announced.take(&[server], &[], 10, 100);
        announced.take(&[server], &[], 10, 105);
        assert_eq!(
            announced.dns,
            [Item {
                value: server,
                until: Some(115)
            }]
        );
        announced.take(&[server], &[], 0, 106);
        assert!(announced.dns.is_empty());
    }

    /// Hostile: A machine on the link sends 10,000 router advertisements, each with other DNS servers and search domains that hold for ever. Outcome: The lists stay short, the servers that were there first stay, and nothing of it is written or looked at again.
    #[test]
    fn a_flood_of_advertisements_is_bounded_and_those_that_came_first_stay() {
        let mut announced = Announced::default();
        let good = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 1);
        announced.take(&[good], &["example.org".to_owned()], 600, 100);
        for number in 0..10_000u16 {
            let server = Ipv6Addr::new(0xfd00, 1, 0, 0, 0, 0, 0, number);
            let taken = announced.take(&[server], &[format!("x{number}.org")], FOREVER, 100);
            if number > 100 {
                let nothing = Taken {
                    changed: false,
                    left_out: true,
                };
                assert_eq!(taken, nothing);
            }
        }
        assert_eq!(announced.dns.len(), most::SERVERS);
        assert_eq!(announced.search.len(), most::DOMAINS);
        assert_eq!(announced.dns[0].value, good);
        // The good one is renewed, although the list is full.
        let taken = announced.take(&[good], &[], 600, 200);
        assert!(taken.changed && !taken.left_out);
        assert_eq!(announced.dns[0].until, Some(800));
        // What is taken back makes room.
        announced.take(&[announced.dns[1].value], &[], 0, 200);
        let other = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
        assert!(announced.take(&[other], &[], 600, 200).changed);
    }

    /// Hostile: A DHCP server offers more servers, routers and routes than anybody needs. Outcome: So many are taken as a machine can use.
    #[test]
    fn a_lease_is_bounded() {
        let address = Ipv4Addr::new(10, 0, 0, 1);
        let route = ClasslessRoute {
            to: "10.1.0.0/16".parse().unwrap(),
            via: address,
        };
        let lease = Lease4 {
            address: "10.0.0.2/24".parse().unwrap(),
            server: address,
            obtained: 0,
            renew: 1,
            rebind: 2,
            lifetime: 3,
            routers: vec![address; 1000],
            classless_routes: Some(vec![route; 1000]),
            dns: vec![address; 1000],
            search: vec!["example.org".to_owned(); 1000],
            ntp: vec![address; 1000],
            host_name: None,
            mtu: None,
        }
        .bounded();
        assert_eq!(lease.routers.len(), most::ROUTERS);
        assert_eq!(lease.classless_routes.unwrap().len(), most::ROUTES);
        assert_eq!(lease.dns.len(), most::SERVERS);
        assert_eq!(lease.search.len(), most::DOMAINS);
        assert_eq!(lease.ntp.len(), most::SERVERS);
    }

    #[test]
    fn what_is_left_is_never_negative() {
        assert_eq!(left(Some(10), 20), 0);
        assert_eq!(left(Some(20), 10), 10);
        assert_eq!(left(None, 10), FOREVER);
    }
}
