use std::time::Duration;

use crate::world::{ETH0, World};

#[test]
fn a_restart_goes_on_with_the_lease_and_nobody_notices() {
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
    let addresses = world.ipv4();
    let routes = world.routes();
    // Each change of an address or route from now on.
    let monitor = world.monitor();

    world.stop();
    assert_eq!(world.ipv4(), addresses);
    assert_eq!(world.routes(), routes);
    world.start();
    let message = world.ready();
    assert!(message.contains(&addresses[0]), "{message}");
    assert_eq!(world.ipv4(), addresses);
    assert_eq!(world.routes(), routes);

    // The running lease is renewed by the new process, by unicast.
    let obtained = world.status()["links"][0]["dhcp4"]["obtained"].clone();
    world.until("the lease is renewed", || {
        world.status()["links"][0]["dhcp4"]["obtained"] != obtained
    });
    let log = world.server_log();
    assert_eq!(log.matches("DHCPDISCOVER").count(), 1, "{log}");
    std::thread::sleep(Duration::from_millis(100));
    let seen = monitor.end();
    assert!(!seen.contains("Deleted"), "{seen}");
}

#[test]
fn a_restart_with_another_configuration_removes_what_it_had_made() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(ETH0);
    world.serve(&["--dhcp-range=10.7.0.10,10.7.0.10,2m"]);
    world.start();
    world.ready();
    world.stop();
    world.configure("[[link]]\nmatch = { name = \"eth0\" }\naddresses = [\"10.7.0.3/24\"]\n");
    world.start();
    world.ready();
    world.until("only the new address is left", || {
        world.ipv4() == ["10.7.0.3/24"]
    });
    assert!(!world.routes().contains("default"));
}
