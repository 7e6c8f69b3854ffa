use std::time::{Duration, Instant};

use crate::world::{ETH0, World};

#[test]
fn a_machine_without_a_link_is_ready_at_once() {
    let Some(mut world) = World::new() else {
        return;
    };
    // No file: physical links only, and there is none here.
    world.start();
    let message = world.ready();
    assert!(message.contains("STATUS=no link"), "{message}");
    assert_eq!(world.status()["state"], "no-link");
    assert!(world.check().0);
    // What software made is not touched.
    assert!(
        world
            .ip(&["link", "show", "dev", "eth0"])
            .contains("state DOWN")
    );
    assert!(
        world
            .resolv_conf()
            .lines()
            .all(|line| line.starts_with('#'))
    );
}

#[test]
fn a_link_without_a_carrier_is_not_waited_for() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(&format!("wait = \"20s\"\n{ETH0}"));
    world.server_ip(&["link", "set", "server0", "down"]);
    world.start();
    let start = Instant::now();
    let message = world.ready();
    assert!(start.elapsed().as_secs() < 10);
    assert!(message.contains("STATUS=eth0: no carrier"), "{message}");
    assert!(world.check().0);

    world.server_ip(&["link", "set", "server0", "up"]);
    world.serve_plain();
    world.until_summary("via DHCP");
}

#[test]
fn a_lost_carrier_keeps_the_address_and_a_new_one_asks_anew() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(ETH0);
    world.serve(&["--dhcp-range=10.7.0.10,10.7.0.10,2m"]);
    world.start();
    world.ready();
    world.server_ip(&["link", "set", "server0", "down"]);
    world.until_summary("no carrier");
    assert_eq!(world.ipv4(), ["10.7.0.10/24"]);

    // The cable is put into another network.
    world.stop_server();
    world.server_ip(&["addr", "flush", "dev", "server0"]);
    world.server_ip(&["addr", "add", "10.8.0.1/24", "dev", "server0"]);
    world.server_ip(&["link", "set", "server0", "up"]);
    world.serve(&[
        "--dhcp-range=10.8.0.20,10.8.0.20,2m",
        "--dhcp-option=option:router,10.8.0.1",
    ]);
    world.until_summary("eth0: 10.8.0.20/24 via DHCP");
    assert_eq!(world.ipv4(), ["10.8.0.20/24"]);
    let routes = world.routes();
    assert!(!routes.contains("10.7.0"), "{routes}");
}

#[test]
fn a_link_that_is_plugged_in_later_is_taken_on_and_forgotten_when_it_goes() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(&format!("{ETH0}[[link]]\nmatch = {{ name = \"eth1\" }}\n"));
    world.serve(&[
        "--dhcp-range=10.7.0.10,10.7.0.10,2m",
        "--dhcp-range=10.9.0.10,10.9.0.10,2m",
    ]);
    world.start();
    world.ready();
    world.plug("eth1", "server1", "10.9.0.1/24");
    world.until_summary("eth1: 10.9.0.10/24 via DHCP");
    world.ip(&["link", "del", "eth1"]);
    world.until("the link is forgotten", || {
        world.status()["links"]
            .as_array()
            .is_some_and(|links| links.len() == 1)
    });
    assert!(
        world.status()["summary"]
            .as_str()
            .unwrap()
            .contains("eth0: 10.7.0.10/24")
    );
}

#[test]
fn what_somebody_removes_comes_back_and_what_others_made_stays() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(ETH0);
    world.serve(&["--dhcp-range=10.7.0.10,10.7.0.10,2m"]);
    world.ip(&["link", "add", "name", "br0", "type", "bridge"]);
    world.ip(&["addr", "add", "172.17.0.1/16", "dev", "br0"]);
    world.ip(&["link", "set", "br0", "up"]);
    world.start();
    world.ready();
    world.ip(&["addr", "add", "10.7.0.77/24", "dev", "eth0"]);
    world.ip(&["route", "add", "10.50.0.0/16", "via", "10.7.0.5"]);

    world.ip(&["route", "del", "default"]);
    world.until("the route is back", || {
        world.routes().contains("default via 10.7.0.1")
    });
    world.ip(&["addr", "del", "10.7.0.10/24", "dev", "eth0"]);
    world.until("the address is back", || {
        world.ipv4().contains(&"10.7.0.10/24".to_owned())
            && world.routes().contains("default via 10.7.0.1")
    });

    world.configure("[[link]]\nmatch = { name = \"eth0\" }\naddresses = [\"10.7.0.30/24\"]\n");
    world.reload();
    world.until_summary("eth0: 10.7.0.30/24");
    world.until("the leased address is gone", || {
        !world.ipv4().contains(&"10.7.0.10/24".to_owned())
    });
    assert_eq!(world.addresses("br0")[0], "172.17.0.1/16");
}

#[test]
fn who_insists_on_undoing_something_is_not_fought_as_fast_as_possible() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(
        "[[link]]\nmatch = { name = \"eth0\" }\naddresses = [\"10.7.0.2/24\"]\ngateway = \"10.7.0.1\"\n",
    );
    world.start();
    world.ready();
    let start = Instant::now();
    let mut removed = 0;
    while start.elapsed() < Duration::from_secs(4) {
        if world.routes().contains("default") {
            world.ip(&["route", "del", "default"]);
            removed += 1;
        }
    }
    // Ten at once, then one a second.
    assert!((2..30).contains(&removed), "{removed}");
    world.until("the route is back", || world.routes().contains("default"));
}
