use crate::world::World;

const FIXED: &str = r#"
[[link]]
match = { name = "eth0" }
addresses = ["10.7.0.2/24", "2001:db8::2/64"]
gateway = ["10.7.0.1", "2001:db8::1"]
routes = [{ to = "10.60.0.0/16", via = "10.7.0.6", metric = 7 }, { to = "10.61.0.0/16" }]
dns = ["192.0.2.53", "fe80::53"]
search = ["example.org"]
mtu = 1400
ipv6 = "static"
"#;

#[test]
fn fixed_addresses_routes_and_dns_are_there_without_any_server() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(FIXED);
    world.start();
    let message = world.ready();
    assert!(message.contains("10.7.0.2/24"), "{message}");
    assert_eq!(world.ipv4(), ["10.7.0.2/24"]);
    assert!(
        world
            .addresses("eth0")
            .contains(&"2001:db8::2/64".to_owned())
    );
    let routes = world.routes();
    for route in [
        "default via 10.7.0.1 dev eth0 proto 87",
        "10.60.0.0/16 via 10.7.0.6 dev eth0 proto 87 metric 7",
        "10.61.0.0/16 dev eth0 proto 87 scope link",
    ] {
        assert!(routes.contains(route), "{route}: {routes}");
    }
    let routes = world.ip(&["-6", "route"]);
    assert!(
        routes.contains("default via 2001:db8::1 dev eth0"),
        "{routes}"
    );
    assert_eq!(
        world.resolv_conf(),
        "# Written by Wherry's network service; changes are lost.\n\
         nameserver 192.0.2.53\nnameserver fe80::53%eth0\nsearch example.org\n"
    );
    assert_eq!(world.status()["links"][0]["mtu"], 1400);
    assert!(world.check().0);
}

#[test]
fn a_changed_configuration_changes_only_what_is_different() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(FIXED);
    world.start();
    world.ready();
    let changed = FIXED
        .replace("10.7.0.6", "10.7.0.7")
        .replace(", \"2001:db8::2/64\"", "")
        .replace("[\"10.7.0.1\", \"2001:db8::1\"]", "\"10.7.0.1\"");
    world.configure(&changed);
    world.reload();
    world.until("the route leads elsewhere", || {
        world.routes().contains("10.60.0.0/16 via 10.7.0.7 ")
    });
    assert!(!world.routes().contains("10.7.0.6"));
    assert!(
        !world
            .addresses("eth0")
            .contains(&"2001:db8::2/64".to_owned())
    );
    assert_eq!(world.ipv4(), ["10.7.0.2/24"]);

    // Hands off: what the service made goes, once.
    world.configure("[[link]]\nmatch = { name = \"eth0\" }\nmanaged = false\n");
    world.reload();
    world.until("the address is gone", || world.ipv4().is_empty());
    assert!(!world.routes().contains("eth0"));
}
