use crate::world::{ETH0, World};

/// IPv4 is off, so that readiness waits for IPv6.
const ONLY_IPV6: &str = "wait = \"25s\"\n[[link]]\nmatch = { name = \"eth0\" }\ndhcp4 = false\n";

fn give_server_ipv6(world: &World) {
    world.server_ip(&["addr", "add", "fd77::1/64", "dev", "server0", "nodad"]);
}

#[test]
fn an_advertisement_gives_address_route_and_dns() {
    let Some(mut world) = World::new() else {
        return;
    };
    give_server_ipv6(&world);
    world.configure(ONLY_IPV6);
    world.serve(&[
        "--dhcp-range=fd77::,ra-only,64,10m",
        "--enable-ra",
        "--dhcp-option=option6:dns-server,[fd77::53]",
        "--dhcp-option=option6:domain-search,six.example",
    ]);
    world.start();
    let message = world.ready();
    assert!(message.contains("via router advertisement"), "{message}");
    assert!(
        world
            .addresses("eth0")
            .iter()
            .any(|address| address.starts_with("fd77::") || address.starts_with("fd77:0:0:0"))
    );
    let routes = world.ip(&["-6", "route"]);
    assert!(routes.contains("default via fe80::"), "{routes}");
    world.until("DNS is known", || {
        world
            .resolv_conf()
            .contains("nameserver fd77::53\nsearch six.example\n")
    });
    assert!(world.check().0);

    // A restart knows it still, though no router repeats it at once.
    world.stop();
    world.start();
    world.ready();
    assert!(world.resolv_conf().contains("nameserver fd77::53\n"));
}

#[test]
fn dhcpv6_is_asked_where_the_advertisement_says_so_and_a_restart_keeps_the_lease() {
    let Some(mut world) = World::new() else {
        return;
    };
    give_server_ipv6(&world);
    world.configure(ONLY_IPV6);
    world.serve(&[
        "--dhcp-range=fd77::100,fd77::1ff,64,2m",
        "--enable-ra",
        "--dhcp-option=option6:dns-server,[fd77::53]",
    ]);
    world.start();
    let message = world.ready();
    assert!(message.contains("/128 via DHCPv6"), "{message}");
    let before = world.addresses("eth0");
    assert!(world.resolv_conf().contains("nameserver fd77::53\n"));
    world.stop();
    world.start();
    world.ready();
    world.until_summary("/128 via DHCPv6");
    assert_eq!(world.addresses("eth0"), before);
}

#[test]
fn ipv6_off_leaves_not_even_a_link_local_address() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(&format!("{ETH0}ipv6 = \"off\"\n"));
    world.serve_plain();
    world.start();
    world.ready();
    assert_eq!(world.addresses("eth0").len(), 1);
    assert_eq!(world.ipv4().len(), 1);
}
