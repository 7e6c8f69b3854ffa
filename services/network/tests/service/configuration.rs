use crate::world::{ETH0, World, holds};

const FIXED: &str = "[[link]]\nmatch = { name = \"eth0\" }\naddresses = [\"10.7.0.2/24\"]\n";
const BROKEN: &str = "[[link]]\nmatch = { name = \"eth0\" }\naddresses = [\"10.7.0.3/24\"]\ngatewya = \"10.7.0.1\"\n";

#[test]
fn an_error_keeps_the_last_good_configuration_and_is_said_loudly() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(FIXED);
    world.start();
    world.ready();
    world.until("the configuration is kept", || {
        holds(&world.path("last-good.toml"), FIXED)
    });

    world.configure(BROKEN);
    world.reload();
    world.until_summary("configuration error");
    let error = world.status()["configuration"]["error"].clone();
    let error = error.as_str().unwrap();
    assert!(
        error.contains("network.toml:4:1: unknown key `link[0].gatewya`"),
        "{error}"
    );
    assert_eq!(world.status()["configuration"]["source"], "last-good");
    assert_eq!(world.ipv4(), ["10.7.0.2/24"]);
    assert!(world.log().contains("<3>"), "{}", world.log());

    // Also after a restart.
    world.stop();
    world.start();
    let message = world.ready();
    assert!(message.contains("10.7.0.2/24"), "{message}");
    assert!(
        message.contains("unknown key `link[0].gatewya`"),
        "{message}"
    );
    assert_eq!(world.ipv4(), ["10.7.0.2/24"]);

    world.configure(FIXED);
    world.reload();
    world.until("all is well", || {
        world.status()["configuration"]["error"].is_null()
    });
}

#[test]
fn an_error_without_a_last_good_configuration_means_the_default() {
    let Some(mut world) = World::new() else {
        return;
    };
    world.configure(BROKEN);
    world.start();
    let message = world.ready();
    // The default takes on physical links, of which there is none here.
    assert!(
        message.contains("STATUS=configuration error, using default: "),
        "{message}"
    );
    assert!(message.ends_with("; no link"), "{message}");
    world.configure(ETH0);
    world.serve_plain();
    world.reload();
    world.until_summary("via DHCP");
}
