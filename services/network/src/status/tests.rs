use super::*;
use crate::config::Config;
use crate::learned::{Announced, FOREVER, Item};

fn loaded() -> Loaded<Config> {
    Loaded {
        config: Config::default(),
        source: Source::Default,
        error: None,
        complaint: None,
    }
}

fn link() -> Link {
    Link {
        index: 2,
        name: "eth0".to_owned(),
        mac: Some(config::value::Mac([0x52, 0x54, 0, 0, 0, 1])),
        physical: true,
        up: true,
        carrier: true,
        mtu: 1500,
        dhcp6_announced: false,
    }
}

fn learned() -> Learned {
    Learned {
        dhcp4: Some(Lease4 {
            address: "10.0.2.15/24".parse().unwrap(),
            server: [10, 0, 2, 2].into(),
            obtained: 100,
            renew: 50,
            rebind: 80,
            lifetime: 100,
            routers: vec![[10, 0, 2, 2].into()],
            classless_routes: None,
            dns: vec![[10, 0, 2, 3].into()],
            search: vec!["example.org".to_owned()],
            ntp: vec![[10, 0, 2, 9].into()],
            host_name: Some("wherry-7".to_owned()),
            mtu: None,
        }),
        announced: Announced {
            dns: vec![Item {
                value: "fe80::3".parse().unwrap(),
                until: None,
            }],
            search: vec![],
        },
        ..Learned::default()
    }
}

fn address(text: &str, owner: Owner) -> Address {
    Address {
        prefix: text.parse().unwrap(),
        owner,
        valid: FOREVER,
        tentative: false,
        duplicate: false,
    }
}

fn with(link: &Link, config: &LinkConfig, learned: &Learned, addresses: &[Address]) -> Status {
    let wanted = plan::wanted(config, link, learned, 100);
    let view = View {
        link,
        config,
        learned,
        wanted: &wanted,
        addresses,
        routes: &[Route {
            to: crate::prefix::DEFAULT_V4,
            via: Some([10, 0, 2, 2].into()),
            source: None,
            metric: 514,
            owner: RouteOwner::OursDhcp,
        }],
    };
    status(&loaded(), &[view])
}

#[test]
fn a_leased_address_is_said_in_one_line() {
    let addresses = [
        address("10.0.2.15/24", Owner::Ours),
        address("fe80::1/64", Owner::LinkLocal),
        address("fec0::1/64", Owner::Router),
    ];
    let status = with(&link(), &LinkConfig::default(), &learned(), &addresses);
    assert_eq!(status.state, State::Online);
    assert_eq!(
        status.summary,
        "eth0: 10.0.2.15/24 via DHCP, fec0::1/64 via router advertisement"
    );
    assert_eq!(status.host_name.as_deref(), Some("wherry-7"));
    assert_eq!(status.ntp, ["10.0.2.9"]);
    assert_eq!(
        resolv_conf(&status.dns),
        "# Written by Wherry's network service; changes are lost.\n\
         nameserver 10.0.2.3\nnameserver fe80::3%eth0\nsearch example.org\n"
    );
}

#[test]
fn what_is_missing_is_said_where_there_is_a_carrier() {
    let config = LinkConfig::default();
    let status = with(&link(), &config, &Learned::default(), &[]);
    assert_eq!(status.state, State::Incomplete);
    assert_eq!(status.summary, "eth0: waiting for an IPv4 address by DHCP");

    let unplugged = Link {
        carrier: false,
        ..link()
    };
    let status = with(&unplugged, &config, &Learned::default(), &[]);
    assert_eq!(status.state, State::NoLink);
    assert_eq!(status.summary, "eth0: no carrier");

    let optional = LinkConfig {
        required: false,
        ..config
    };
    let status = with(&link(), &optional, &Learned::default(), &[]);
    assert_eq!(status.state, State::Online);
}

#[test]
fn configured_dns_replaces_what_was_learned() {
    let config = LinkConfig {
        dns: vec![[192, 0, 2, 53].into()],
        search: vec!["lab".to_owned()],
        ..LinkConfig::default()
    };
    let status = with(&link(), &config, &learned(), &[]);
    assert_eq!(
        status.dns,
        Dns {
            servers: vec!["192.0.2.53".to_owned()],
            search: vec!["lab".to_owned()],
        }
    );
}

#[test]
fn an_error_in_the_configuration_is_part_of_the_line() {
    let error = crate::config::parse("network.toml", "a = 1").unwrap_err();
    let loaded = Loaded {
        error: Some(error),
        source: Source::LastGood,
        ..loaded()
    };
    let status = status(&loaded, &[]);
    assert_eq!(status.state, State::NoLink);
    let summary = &status.summary;
    let start = "configuration error, using last-good: network.toml:1:1: unknown key `a`";
    assert!(summary.starts_with(start), "{summary}");
    assert!(summary.ends_with("; no link"), "{summary}");
    assert_eq!(status.configuration.source, "last-good");
}

/// What others read must not change by accident; `docs/network.md` shows it.
#[test]
fn the_file_has_the_documented_form() {
    let addresses = [address("10.0.2.15/24", Owner::Ours)];
    let status = with(&link(), &LinkConfig::default(), &learned(), &addresses);
    let page = include_str!("../../../../docs/network.md");
    let example = page
        .split("```json\n")
        .nth(1)
        .unwrap()
        .split("```")
        .next()
        .unwrap();
    let example: serde_json::Value = serde_json::from_str(example).unwrap();
    let status = serde_json::to_value(&status).unwrap();
    assert_eq!(keys(&status), keys(&example));
}

/// The paths of all values.
fn keys(value: &serde_json::Value) -> BTreeSet<String> {
    fn walk(value: &serde_json::Value, path: &str, keys: &mut BTreeSet<String>) {
        match value {
            serde_json::Value::Object(map) => {
                for (key, value) in map {
                    keys.insert(format!("{path}.{key}"));
                    walk(value, &format!("{path}.{key}"), keys);
                }
            }
            serde_json::Value::Array(items) => {
                for item in items {
                    walk(item, &format!("{path}[]"), keys);
                }
            }
            _ => {}
        }
    }
    let mut found = BTreeSet::new();
    walk(value, "", &mut found);
    found
}
