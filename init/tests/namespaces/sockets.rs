//! Sockets that PID 1 holds for services.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use control::{Request, ServiceState};

use crate::pid1::{Pid1, service};

const SOCKET: &str = "/run/wherry/web.sock";

fn connect(path: &Path) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

fn answer(mut client: UnixStream) -> String {
    let mut text = String::new();
    client.read_to_string(&mut text).unwrap();
    text
}

fn web(keys: &str) -> String {
    service(
        &["serve"],
        &format!("sockets = [\"unix:{SOCKET}\"]\n{keys}"),
    )
}

pub fn a_client_starts_a_service_on_demand() {
    let mut pid1 = Pid1::boot(&[("web", web("enabled = false"))]);
    assert_eq!(pid1.service("web").state, ServiceState::Stopped);
    for _ in 0..2 {
        assert_eq!(answer(connect(&pid1.path(SOCKET))), "served\n");
        pid1.wait_for_state("web", ServiceState::Ready);
        pid1.wait_for_log("web: started on demand");
        pid1.order(|service| Request::Stop { service }, "web");
        pid1.wait_for_state("web", ServiceState::Stopped);
    }
    assert_eq!(pid1.log().matches("web: started on demand").count(), 2);
}

pub fn a_client_of_a_service_that_is_restarted_is_served_by_the_next_run() {
    let mut pid1 = Pid1::boot(&[("web", web("restart = { backoff = \"300ms..300ms\" }"))]);
    let first = pid1.service("web").pid.unwrap();
    pid1.kill(first);
    pid1.wait_for_state("web", ServiceState::Backoff);
    let client = connect(&pid1.path(SOCKET));
    assert_eq!(answer(client), "served\n");
    let line = pid1.wait_for_state("web", ServiceState::Ready);
    assert_eq!(line.restarts, 1);
    assert_ne!(line.pid, Some(first));
}

pub fn a_flood_of_clients_is_served_and_starts_the_service_once() {
    let mut pid1 = Pid1::boot(&[("web", web("enabled = false"))]);
    let path = pid1.path(SOCKET);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let path = path.clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    assert_eq!(answer(connect(&path)), "served\n");
                }
            })
        })
        .collect();
    for client in clients {
        client.join().unwrap();
    }
    assert_eq!(pid1.log().matches("web: started on demand").count(), 1);
}

pub fn a_socket_that_a_changed_definition_keeps_stays_open_and_a_new_one_is_watched() {
    let mut pid1 = Pid1::boot(&[]);
    let sockets = format!("sockets = [\"unix:{SOCKET}\"]");
    pid1.define("web", &service(&["forever"], &sockets));
    pid1.define(
        "idle",
        &service(
            &["serve"],
            &format!("enabled = false\n{}", sockets.replace("web", "idle")),
        ),
    );
    pid1.reload();
    pid1.wait_for_state("web", ServiceState::Ready);
    let waiting = connect(&pid1.path(SOCKET));
    let more = "sockets = [\"unix:/run/wherry/NAME-more.sock\", \"unix:/run/wherry/NAME.sock\"]\nenabled = false";
    for name in ["web", "idle"] {
        pid1.define(name, &service(&["serve-last"], &more.replace("NAME", name)));
    }
    assert_eq!(pid1.reload(), Vec::<String>::new());
    pid1.order(|service| Request::Restart { service }, "web");
    assert_eq!(answer(waiting), "served\n");
    assert_eq!(pid1.service("idle").state, ServiceState::Stopped);
    let _client = connect(&pid1.path("/run/wherry/idle-more.sock"));
    pid1.wait_for_state("idle", ServiceState::Ready);
    assert_eq!(
        answer(connect(&pid1.path("/run/wherry/idle.sock"))),
        "served\n"
    );
}
