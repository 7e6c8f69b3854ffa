use super::*;

fn read(text: &str) -> Config {
    parse("network.toml", text).unwrap()
}

fn error(text: &str) -> String {
    parse("network.toml", text).unwrap_err().to_string()
}

fn physical(name: &str) -> Candidate<'_> {
    Candidate {
        name,
        mac: Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
        physical: true,
    }
}

#[test]
fn an_empty_file_means_the_default() {
    assert_eq!(read(""), Config::default());
    assert_eq!(read("wait = \"10s\"\n"), Config::default());
}

#[test]
fn every_key_is_read() {
    let config = read(
        r#"
        wait = "1500ms"
        [[link]]
        match = { name = "en*", mac = "52:54:00:12:34:56" }
        managed = true
        required = false
        dhcp4 = true
        ipv6 = "static"
        addresses = ["10.0.0.2/24", "2001:db8::2/64"]
        gateway = ["10.0.0.1", "fe80::1"]
        routes = [{ to = "10.1.0.0/16", via = "10.0.0.254", metric = 7 }, { to = "default", via = "10.0.0.9" }]
        metric = 50
        dns = ["10.0.0.53"]
        search = ["example.org"]
        mtu = 1400
        "#,
    );
    assert_eq!(config.wait, Duration::from_millis(1500));
    assert_eq!(
        config.links,
        [LinkConfig {
            matches: Match {
                name: Some(Pattern::from("en*")),
                mac: Some(Mac([0x52, 0x54, 0, 0x12, 0x34, 0x56])),
            },
            managed: true,
            required: false,
            dhcp4: true,
            ipv6: Ipv6::Static,
            addresses: vec![
                "10.0.0.2/24".parse().unwrap(),
                "2001:db8::2/64".parse().unwrap()
            ],
            gateways: vec!["10.0.0.1".parse().unwrap(), "fe80::1".parse().unwrap()],
            routes: vec![
                RouteConfig {
                    to: "10.1.0.0/16".parse().unwrap(),
                    via: Some("10.0.0.254".parse().unwrap()),
                    metric: Some(7),
                },
                RouteConfig {
                    to: crate::prefix::DEFAULT_V4,
                    via: Some("10.0.0.9".parse().unwrap()),
                    metric: None,
                },
            ],
            metric: Some(50),
            dns: vec!["10.0.0.53".parse().unwrap()],
            search: vec!["example.org".to_owned()],
            mtu: Some(1400),
        }]
    );
}

#[test]
fn an_ipv4_address_turns_dhcp_off_unless_it_is_asked_for() {
    let link = |text: &str| read(&format!("[[link]]\n{text}")).links.remove(0);
    assert!(!link("addresses = [\"10.0.0.2/24\"]").dhcp4);
    assert!(link("addresses = [\"2001:db8::2/64\"]").dhcp4);
    assert!(link("addresses = [\"10.0.0.2/24\"]\ndhcp4 = true").dhcp4);
    assert!(link("").dhcp4);
}

#[test]
fn an_error_names_its_place_its_key_and_what_was_expected() {
    for (text, expected) in [
        (
            "\nwiat = \"1s\"\n",
            "2:1: unknown key `wiat`, expected `wait` or `link`",
        ),
        ("[[link]]\n\nmtuu = 3\n", "3:1: unknown key `link[0].mtuu`"),
        (
            "[[link]]\nmatch = { nam = \"x\" }\n",
            "2:11: unknown key `link[0].match.nam`",
        ),
        (
            "[[link]]\nroutes = [{ to = \"default\", vai = \"10.0.0.1\" }]\n",
            "2:29: unknown key `link[0].routes[0].vai`",
        ),
        (
            "wait = \"soon\"\n",
            "1:8: key `wait`: 'soon' is not a duration, expected one as",
        ),
        ("wait = \"10\"\n", "1:8: key `wait`: '10' is not a duration"),
        (
            "[[link]]\ndhcp4 = \"yes\"\n",
            "2:9: key `link[0].dhcp4`: invalid type: string \"yes\", expected true or false",
        ),
        (
            "[[link]]\nipv6 = \"on\"\n",
            "2:8: key `link[0].ipv6`: unknown variant `on`, expected one of `auto`",
        ),
        (
            "[[link]]\n[[link]]\naddresses = [\"10.0.0.2\"]\n",
            "3:14: key `link[1].addresses[0]`: '10.0.0.2' is not an address with its prefix",
        ),
        (
            "[[link]]\ngateway = \"router\"\n",
            "2:11: key `link[0].gateway`: 'router' is not an IP address",
        ),
        (
            "\n[[link]]\ngateway = [\"10.0.0.1\", \"10.0.0.2\"]\n",
            "3:24: key `link[0].gateway[1]`: two of one family; use routes",
        ),
        (
            "[[link]]\nmtu = 1000\n",
            "2:7: key `link[0].mtu`: 1000 is out of range, expected 1280 to 65535",
        ),
        ("[[link]]\nmtu = -1\n", "2:7: key `link[0].mtu`: "),
        (
            "[[link]]\nsearch = [\"a b\"]\n",
            "2:11: key `link[0].search[0]`: 'a b' is not a domain",
        ),
        (
            "[[link]]\nipv6 = \"off\"\naddresses = [\"::1/64\"]\n",
            "3:14: key `link[0].addresses[0]`: ::1/64 with ipv6 = \"off\"",
        ),
        (
            "[[link]]\nmatch = { mac = \"52:54\" }\n",
            "2:17: key `link[0].match.mac`: '52:54' is not a hardware address",
        ),
        (
            "[[link]]\nroutes = [{ to = \"10.0.0.1/8\" }]\n",
            "2:18: key `link[0].routes[0].to`: '10.0.0.1/8' has bits behind its prefix, expected the network 10.0.0.0/8",
        ),
        (
            "[[link]]\nroutes = [\n{ to = \"default\" }]\n",
            "3:1: key `link[0].routes[0]`: a default route needs `via`",
        ),
        (
            "[[link]]\nroutes = [{ to = \"::/0\", via = \"10.0.0.1\" }]\n",
            "2:32: key `link[0].routes[0].via`: ::/0 and 10.0.0.1 are of different families",
        ),
        ("[[link]\n", "1:"),
        (
            "link = 3\n",
            "1:8: key `link`: invalid type: integer `3`, expected a list",
        ),
    ] {
        let error = error(text);
        assert!(
            error.starts_with(&format!("network.toml:{expected}")),
            "{text:?}: {error}"
        );
        assert!(!error.contains('\n'), "{error}");
    }
}

#[test]
fn a_pattern_means_physical_links_only_and_a_full_name_any() {
    let virtual_link = |name| Candidate {
        physical: false,
        ..physical(name)
    };
    let all = Config::default();
    assert!(all.of_link(physical("eth0")).is_some());
    assert!(all.of_link(virtual_link("veth123")).is_none());

    let config = read("[[link]]\nmatch = { name = \"*\" }\n");
    assert!(config.of_link(physical("eth0")).is_some());
    assert!(config.of_link(virtual_link("docker0")).is_none());

    let config = read("[[link]]\nmatch = { name = \"br0\" }\n");
    assert!(config.of_link(virtual_link("br0")).is_some());
    assert!(config.of_link(physical("eth0")).is_none());

    let config = read("[[link]]\nmatch = { mac = \"52-54-00-12-34-56\" }\n");
    assert!(config.of_link(physical("eth0")).is_some());
    assert!(config.of_link(virtual_link("macvlan0")).is_none());
}

#[test]
fn the_first_match_counts_even_where_it_says_hands_off() {
    let config =
        read("[[link]]\nmatch = { name = \"eth1\" }\nmanaged = false\n[[link]]\nmetric = 3\n");
    assert!(config.of_link(physical("eth1")).is_none());
    assert_eq!(config.of_link(physical("eth0")).unwrap().metric, Some(3));
}

/// The names in the first column of the table below the heading.
fn documented_keys(heading: &str) -> Vec<String> {
    let page = include_str!("../../../../docs/network.md");
    let section = page.split(heading).nth(1).expect(heading);
    let section = section.split("\n#").next().unwrap();
    section
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'))
        .map(|(key, _)| key.to_owned())
        .collect()
}

/// The names that the parser would have accepted in place of an unknown one.
fn accepted_keys(text: &str) -> Vec<String> {
    let error = error(text);
    let list = error.split_once("expected ").expect(&error).1;
    list.split('`')
        .skip(1)
        .step_by(2)
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_manual_lists_the_keys_that_the_parser_knows() {
    for (heading, text) in [
        ("### Keys of the file", "unknown = 1"),
        ("### Keys of a link", "[[link]]\nunknown = 1"),
        ("### Keys of match", "[[link]]\nmatch = { unknown = 1 }"),
        (
            "### Keys of a route",
            "[[link]]\nroutes = [{ unknown = 1 }]",
        ),
    ] {
        let mut documented = documented_keys(heading);
        let mut accepted = accepted_keys(text);
        documented.sort();
        accepted.sort();
        assert_eq!(documented, accepted, "{heading}");
    }
}
