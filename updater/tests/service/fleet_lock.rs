//! A FleetLock server between the updater and the restart.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use control::Request as Pid1Request;

use crate::world::{World, wait_until};

/// A server that refuses the first `refusals` requests.
struct Server {
    url: String,
    /// The requests as they came.
    requests: Arc<Mutex<Vec<String>>>,
}

impl Server {
    fn start(refusals: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&requests);
        // The thread ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = String::new();
                let mut bytes = [0; 4096];
                while !request.contains("client_params") {
                    let count = stream.read(&mut bytes).unwrap();
                    assert!(count > 0, "half a request: {request}");
                    request += &String::from_utf8_lossy(&bytes[..count]);
                }
                let mut seen = seen.lock().unwrap();
                seen.push(request);
                let (status, body) = if seen.len() > refusals {
                    ("200 OK", "")
                } else {
                    (
                        "404 Not Found",
                        r#"{"kind":"full","value":"no slot is free"}"#,
                    )
                };
                write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                )
                .unwrap();
            }
        });
        Self { url, requests }
    }

    fn count(&self, path: &str) -> usize {
        let line = format!("POST {path} ");
        let requests = self.requests.lock().unwrap();
        requests.iter().filter(|it| it.starts_with(&line)).count()
    }
}

fn configure(world: &World, server: &Server) {
    world.configure(&format!(
        "mode = \"automatic\"\nhealth-time = \"1s\"\nreboot-delay = \"0s\"\nreboot-spread = \"0s\"\n\
         fleet-lock = {{ url = \"{}\", group = \"boats\" }}\n",
        server.url
    ));
}

#[test]
fn the_machine_restarts_with_a_slot_of_the_fleets_and_gives_it_back() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    let server = Server::start(0);
    configure(&world, &server);
    world.publish(2);
    let pid1 = world.pid1(1, "first");
    let updater = world.start();
    wait_until("PID 1 was not asked to restart", || {
        pid1.was_asked(&Pid1Request::Reboot)
    });
    assert_eq!(server.count("/v1/pre-reboot"), 1);
    assert_eq!(server.count("/v1/steady-state"), 0);
    let request = server.requests.lock().unwrap()[0].clone();
    assert!(request.contains("\"group\":\"boats\""), "{request}");
    assert!(
        request.to_lowercase().contains("fleet-lock-protocol: true"),
        "{request}"
    );
    // The machine's id is nobody else's business.
    assert!(!request.contains("0123456789abcdef"), "{request}");
    updater.end();
    assert_eq!(world.look(1)["next"], "wherry_2.0+3-0.efi");

    let _pid1 = world.pid1(2, "second");
    let updater = world.start();
    wait_until("the slot was not given back", || {
        server.count("/v1/steady-state") == 1
    });
    drop(updater);
}

#[test]
fn a_machine_that_gets_no_slot_waits_and_says_for_what() {
    let world = World::new(&[("wherry_1.0.efi", 1)]);
    let server = Server::start(usize::MAX);
    configure(&world, &server);
    world.publish(2);
    let pid1 = world.pid1(1, "first");
    let updater = world.start();
    let status = updater.wait_for("refusal", |status| {
        status
            .reboot_waits_for
            .as_ref()
            .is_some_and(|why| why.contains("no slot is free"))
    });
    assert_eq!(status.reboot_required.as_deref(), Some("2.0"));
    assert!(!pid1.was_asked(&Pid1Request::Reboot));
    assert_eq!(world.look(1)["next"], "wherry_1.0.efi");
}
