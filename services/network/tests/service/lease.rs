use serde_json::json;

use crate::world::{ETH0, World};

#[test]
fn a_lease_gives_address_route_dns_and_readiness() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(ETH0);
    world.serve(&[
        "--dhcp-range=10.7.0.10,10.7.0.10,2m",
        "--dhcp-option=option:domain-search,lab.example,example.org",
        "--dhcp-option=option:ntp-server,10.7.0.9",
        "--dhcp-option=option:mtu,1400",
        "--dhcp-option=12,harbour",
    ]);
    world.start();
    let message = world.ready();
    assert!(
        message.contains("STATUS=eth0: 10.7.0.10/24 via DHCP"),
        "{message}"
    );
    assert_eq!(world.ipv4(), ["10.7.0.10/24"]);
    let routes = world.routes();
    assert!(
        routes.contains("default via 10.7.0.1 dev eth0 proto dhcp"),
        "{routes}"
    );
    assert_eq!(
        world.resolv_conf(),
        "# Written by Wherry's network service; changes are lost.\n\
         nameserver 10.7.0.53\nsearch lab.example example.org\n"
    );
    let status = world.status();
    assert_eq!(status["state"], "online");
    assert_eq!(status["ntp"], json!(["10.7.0.9"]));
    assert_eq!(status["host_name"], "harbour");
    assert_eq!(status["links"][0]["mtu"], 1400);
    assert_eq!(status["links"][0]["dhcp4"]["server"], "10.7.0.1");
    assert_eq!(world.check(), (true, String::new()));
    // The kernel forgets the address by itself should the service be gone.
    let shown = world.ip(&["addr", "show", "dev", "eth0"]);
    assert!(shown.contains("dynamic"), "{shown}");
}

#[test]
fn classless_routes_replace_the_router() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(ETH0);
    world.serve(&[
        "--dhcp-range=10.7.0.10,10.7.0.50,2m",
        "--dhcp-option=121,10.99.0.0/16,10.7.0.3,0.0.0.0/0,10.7.0.2",
    ]);
    world.start();
    world.ready();
    let routes = world.routes();
    assert!(routes.contains("default via 10.7.0.2 dev eth0"), "{routes}");
    assert!(
        routes.contains("10.99.0.0/16 via 10.7.0.3 dev eth0"),
        "{routes}"
    );
    assert!(!routes.contains("via 10.7.0.1"), "{routes}");
}

#[test]
fn a_lease_is_renewed_and_nothing_changes_meanwhile() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(ETH0);
    world.serve(&[
        "--dhcp-range=10.7.0.10,10.7.0.50,2m",
        "--dhcp-option-force=58,3",
    ]);
    world.start();
    world.ready();
    let before = world.ipv4();
    let obtained = world.status()["links"][0]["dhcp4"]["obtained"].clone();
    world.until("the lease is renewed", || {
        world.status()["links"][0]["dhcp4"]["obtained"] != obtained
    });
    assert_eq!(world.ipv4(), before);
    let log = world.server_log();
    assert_eq!(log.matches("DHCPDISCOVER").count(), 1, "{log}");
    assert!(log.matches("DHCPACK").count() >= 2, "{log}");
}

#[test]
fn a_server_that_comes_late_is_found() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(&format!("wait = \"500ms\"\n{ETH0}"));
    world.start();
    // Ready all the same when the wait is over, and it says what is missing.
    let message = world.ready();
    assert!(
        message.contains("eth0: waiting for an IPv4 address by DHCP"),
        "{message}"
    );
    assert_eq!(
        world.check(),
        (false, "eth0: lacks an IPv4 address by DHCP\n".to_owned())
    );
    assert_eq!(world.status()["state"], "incomplete");
    world.serve_plain();
    world.until_summary("via DHCP");
    assert!(world.check().0);
}

#[test]
fn a_server_that_is_gone_takes_nothing_and_one_that_refuses_is_replaced() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(ETH0);
    // Asked by unicast after 3 s and by broadcast after 6.
    world.serve(&[
        "--dhcp-range=10.7.0.10,10.7.0.19,2m",
        "--dhcp-option-force=58,3",
        "--dhcp-option-force=59,6",
    ]);
    world.start();
    let message = world.ready();
    assert!(message.contains("via DHCP"), "{message}");
    let before = world.ipv4();
    world.stop_server();
    std::fs::remove_file(world.path("dnsmasq.leases")).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(7));
    assert_eq!(world.ipv4(), before);
    // Back with another range, the server refuses the old address, which the
    // library does not hear.
    world.serve(&["--dhcp-range=10.7.0.100,10.7.0.100,2m"]);
    world.until_summary("10.7.0.100/24 via DHCP");
    assert_eq!(world.ipv4(), ["10.7.0.100/24"]);
}
