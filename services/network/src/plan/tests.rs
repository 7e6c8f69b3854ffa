use std::net::Ipv4Addr;

use super::*;
use crate::config::{Config, RouteConfig};
use crate::learned::{ClasslessRoute, FOREVER, Lease6};

const NOW: Moment = 1000;

fn prefix(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn link() -> Link {
    Link {
        index: 2,
        name: "eth0".to_owned(),
        mac: None,
        physical: true,
        up: true,
        carrier: true,
        mtu: 1500,
        dhcp6_announced: false,
    }
}

fn dhcp() -> LinkConfig {
    Config::default().links.remove(0)
}

fn fixed() -> LinkConfig {
    LinkConfig {
        dhcp4: false,
        addresses: vec![prefix("10.0.0.2/24")],
        gateways: vec![ip("10.0.0.1")],
        ..LinkConfig::default()
    }
}

fn lease() -> Lease4 {
    Lease4 {
        address: prefix("10.0.2.15/24"),
        server: Ipv4Addr::new(10, 0, 2, 2),
        obtained: NOW,
        renew: 50,
        rebind: 80,
        lifetime: 100,
        routers: vec![Ipv4Addr::new(10, 0, 2, 2)],
        classless_routes: None,
        dns: vec![],
        search: vec![],
        ntp: vec![],
        host_name: None,
        mtu: None,
    }
}

fn leased(lease: Lease4) -> Learned {
    Learned {
        dhcp4: Some(lease),
        ..Learned::default()
    }
}

/// The kernel's state after all changes were made.
fn apply(
    link: &mut Link,
    addresses: &mut Vec<Address>,
    routes: &mut Vec<Route>,
    changes: Vec<Change>,
) {
    for change in changes {
        match change {
            Change::SetMtu(mtu) => link.mtu = mtu,
            Change::RemoveRoute(route) => routes.retain(|other| *other != route),
            Change::RemoveAddress(prefix) => addresses.retain(|other| other.prefix != prefix),
            Change::PutAddress(wanted) => {
                addresses.retain(|other| other.prefix != wanted.prefix);
                addresses.push(Address {
                    prefix: wanted.prefix,
                    owner: Owner::Ours,
                    valid: wanted.valid,
                    tentative: false,
                    duplicate: false,
                });
            }
            Change::AddRoute(wanted) => routes.push(Route {
                to: wanted.to,
                via: wanted.via,
                source: wanted.source,
                metric: wanted.metric,
                owner: if wanted.dhcp {
                    RouteOwner::OursDhcp
                } else {
                    RouteOwner::OursStatic
                },
            }),
        }
    }
}

#[test]
fn after_the_changes_nothing_is_left_to_change() {
    let full = LinkConfig {
        routes: vec![RouteConfig {
            to: prefix("10.9.0.0/16"),
            via: Some(ip("10.0.0.9")),
            metric: Some(3),
        }],
        mtu: Some(1400),
        ..fixed()
    };
    let both = LinkConfig {
        dhcp4: true,
        ..full.clone()
    };
    let configs = [dhcp(), fixed(), full, both];
    let learned = [Learned::default(), leased(lease())];
    // From each state to each other one.
    for first in &configs {
        for second in &configs {
            for learned in &learned {
                let (mut link, mut addresses, mut routes) = (link(), vec![], vec![]);
                for config in [first, second] {
                    let wanted = wanted(config, &link, learned, NOW);
                    let steps = changes(&link, &addresses, &routes, &wanted);
                    apply(&mut link, &mut addresses, &mut routes, steps);
                    assert_eq!(changes(&link, &addresses, &routes, &wanted), []);
                    assert_eq!(addresses.len(), wanted.addresses.len());
                    assert_eq!(routes.len(), wanted.routes.len());
                }
            }
        }
    }
}

#[test]
fn what_others_made_is_left_alone() {
    let foreign = Address {
        prefix: prefix("172.17.0.1/16"),
        owner: Owner::Other,
        valid: FOREVER,
        tentative: false,
        duplicate: false,
    };
    let addresses = [
        foreign.clone(),
        Address {
            prefix: prefix("fe80::1/64"),
            owner: Owner::LinkLocal,
            ..foreign.clone()
        },
        Address {
            prefix: prefix("2001:db8::1/64"),
            owner: Owner::Router,
            ..foreign
        },
    ];
    let route = |to, owner| Route {
        to: prefix(to),
        via: None,
        source: None,
        metric: 0,
        owner,
    };
    let routes = [
        route("172.17.0.0/16", RouteOwner::Kernel),
        route("10.244.0.0/16", RouteOwner::Other),
        route("::/0", RouteOwner::Router),
    ];
    assert_eq!(
        changes(&link(), &addresses, &routes, &Wanted::default()),
        []
    );
}

#[test]
fn what_a_lease_gave_goes_with_it() {
    let (mut link, mut addresses, mut routes) = (link(), vec![], vec![]);
    let with = wanted(&dhcp(), &link, &leased(lease()), NOW);
    let steps = changes(&link, &addresses, &routes, &with);
    apply(&mut link, &mut addresses, &mut routes, steps);
    let without = wanted(&dhcp(), &link, &Learned::default(), NOW);
    assert_eq!(
        changes(&link, &addresses, &routes, &without),
        [
            Change::RemoveRoute(routes[0].clone()),
            Change::RemoveAddress(prefix("10.0.2.15/24")),
        ]
    );
}

#[test]
fn a_renewed_lease_lengthens_the_address_and_nothing_else() {
    let (mut link, mut addresses, mut routes) = (link(), vec![], vec![]);
    let first = wanted(&dhcp(), &link, &leased(lease()), NOW);
    let steps = changes(&link, &addresses, &routes, &first);
    apply(&mut link, &mut addresses, &mut routes, steps);

    // 50 s later the kernel has counted down as far as we have.
    addresses[0].valid -= 50;
    let later = wanted(&dhcp(), &link, &leased(lease()), NOW + 50);
    assert_eq!(changes(&link, &addresses, &routes, &later), []);

    let renewed = Lease4 {
        obtained: NOW + 50,
        ..lease()
    };
    let renewed = wanted(&dhcp(), &link, &leased(renewed), NOW + 50);
    let steps = changes(&link, &addresses, &routes, &renewed);
    assert_eq!(steps, [Change::PutAddress(renewed.addresses[0].clone())]);
    assert_eq!(renewed.addresses[0].valid, 100);
}

#[test]
fn a_new_address_comes_after_the_old_one_has_gone() {
    let (mut link, mut addresses, mut routes) = (link(), vec![], vec![]);
    let steps = changes(
        &link,
        &[],
        &[],
        &wanted(&dhcp(), &link, &leased(lease()), NOW),
    );
    apply(&mut link, &mut addresses, &mut routes, steps);
    let moved = Lease4 {
        address: prefix("10.0.2.16/24"),
        ..lease()
    };
    let steps = changes(
        &link,
        &addresses,
        &routes,
        &wanted(&dhcp(), &link, &leased(moved), NOW),
    );
    assert!(matches!(
        steps[..],
        [
            Change::RemoveRoute(_),
            Change::RemoveAddress(_),
            Change::PutAddress(_),
            Change::AddRoute(_),
        ]
    ));
}

#[test]
fn classless_routes_replace_the_router_and_need_no_network_of_the_link() {
    let lease = Lease4 {
        address: prefix("10.128.0.7/32"),
        classless_routes: Some(vec![
            ClasslessRoute {
                to: prefix::DEFAULT_V4,
                via: Ipv4Addr::new(10, 128, 0, 1),
            },
            ClasslessRoute {
                to: prefix("10.128.0.1/32"),
                via: Ipv4Addr::UNSPECIFIED,
            },
        ]),
        ..lease()
    };
    let wanted = wanted(&dhcp(), &link(), &leased(lease), NOW);
    let summary: Vec<_> = wanted
        .routes
        .iter()
        .map(|route| (route.to.to_string(), route.via, route.onlink))
        .collect();
    assert_eq!(
        summary,
        [
            ("10.128.0.1/32".to_owned(), None, false),
            ("0.0.0.0/0".to_owned(), Some(ip("10.128.0.1")), false),
        ]
    );
}

#[test]
fn a_router_outside_of_the_network_is_taken_to_be_on_the_link() {
    let lease = Lease4 {
        address: prefix("10.128.0.7/32"),
        ..lease()
    };
    let wanted = wanted(&dhcp(), &link(), &leased(lease), NOW);
    assert!(wanted.routes[0].onlink);
}

#[test]
fn an_operators_gateway_wins_over_the_leased_one() {
    let config = LinkConfig {
        gateways: vec![ip("10.0.2.99")],
        ..dhcp()
    };
    let wanted = wanted(&config, &link(), &leased(lease()), NOW);
    assert_eq!(wanted.routes.len(), 1);
    assert_eq!(wanted.routes[0].via, Some(ip("10.0.2.99")));
}

#[test]
fn a_configured_mtu_wins_and_a_nonsensical_leased_one_is_not_taken() {
    let with = |mtu| {
        leased(Lease4 {
            mtu: Some(mtu),
            ..lease()
        })
    };
    let mtu = |config: &LinkConfig, learned| wanted(config, &link(), &learned, NOW).mtu;
    assert_eq!(mtu(&dhcp(), with(1400)), Some(1400));
    assert_eq!(mtu(&dhcp(), with(600)), None);
    let no_ipv6 = LinkConfig {
        ipv6: Ipv6::Off,
        ..dhcp()
    };
    assert_eq!(mtu(&no_ipv6, with(600)), Some(600));
    let configured = LinkConfig {
        mtu: Some(9000),
        ..dhcp()
    };
    assert_eq!(mtu(&configured, with(1400)), Some(9000));
}

#[test]
fn a_leased_ipv6_address_stands_alone_and_loses_its_preference_first() {
    let learned = Learned {
        dhcp6: Some(Lease6 {
            address: "2001:db8::99".parse().unwrap(),
            association: 1,
            server: vec![0, 3],
            obtained: NOW - 60,
            renew: 30,
            rebind: 35,
            preferred: 40,
            valid: 100,
            dns: vec![],
            search: vec![],
            ntp: vec![],
        }),
        ..Learned::default()
    };
    let wanted = wanted(&dhcp(), &link(), &learned, NOW);
    assert_eq!(
        wanted.addresses,
        [WantedAddress {
            prefix: prefix("2001:db8::99/128"),
            origin: Origin::Dhcp6,
            valid: 40,
            preferred: 0,
        }]
    );
}

#[test]
fn a_link_that_is_down_gets_no_routes() {
    let down = Link {
        up: false,
        ..link()
    };
    let steps = changes(
        &down,
        &[],
        &[],
        &wanted(&dhcp(), &down, &leased(lease()), NOW),
    );
    assert!(matches!(steps[..], [Change::PutAddress(_)]));
}

#[test]
fn the_words_for_what_is_missing() {
    let none: [Address; 0] = [];
    let want = |config: &LinkConfig, learned: &Learned| wanted(config, &link(), learned, NOW);
    assert_eq!(
        missing(&dhcp(), &want(&dhcp(), &Learned::default()), &none),
        ["an IPv4 address by DHCP"]
    );
    assert_eq!(
        missing(&fixed(), &want(&fixed(), &Learned::default()), &none),
        ["the address 10.0.0.2/24"]
    );
    let has = |text: &str, duplicate| Address {
        prefix: prefix(text),
        owner: Owner::Ours,
        valid: 100,
        tentative: false,
        duplicate,
    };
    let learned = leased(lease());
    let there = [has("10.0.2.15/24", false)];
    assert!(missing(&dhcp(), &want(&dhcp(), &learned), &there).is_empty());

    let only_ipv6 = LinkConfig {
        dhcp4: false,
        ..dhcp()
    };
    let wanted = want(&only_ipv6, &Learned::default());
    let local = [has("fe80::1/64", false)];
    assert_eq!(missing(&only_ipv6, &wanted, &local), ["an IPv6 address"]);
    let twice = [has("2001:db8::1/64", true)];
    assert_eq!(missing(&only_ipv6, &wanted, &twice), ["an IPv6 address"]);
    let global = [has("2001:db8::1/64", false)];
    assert!(missing(&only_ipv6, &wanted, &global).is_empty());
}
