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

/// What a client reads: nothing where it is turned away.
fn turned_away(path: &Path) -> bool {
    let mut client = connect(path);
    matches!(client.read(&mut [0; 16]), Ok(0)) || client.read(&mut [0]).is_err()
}

/// Hostile: is started by a client and ends at once without taking it, again and again. Outcome: it is restarted with growing waits and within its limit, its state says why, and its clients are turned away.
pub fn a_service_that_leaves_its_client_waiting_is_restarted_within_its_limit_and_then_refuses() {
    let mut pid1 = Pid1::boot(&[]);
    let keys = format!(
        "sockets = [\"unix:{SOCKET}\"]\nenabled = false\n\
         restart = {{ backoff = \"50ms..100ms\", limit = \"3/1h\" }}"
    );
    pid1.define("web", &service(&["exit 0"], &keys));
    pid1.reload();
    let path = pid1.path(SOCKET);
    assert!(turned_away(&path));
    pid1.wait_for_state("web", ServiceState::Failed);
    assert_eq!(pid1.service("web").restarts, 3);
    let log = pid1.log();
    assert_eq!(log.matches("web: started on demand").count(), 1, "{log}");
    assert!(log.contains("ended without taking its client"), "{log}");
    for _ in 0..3 {
        assert!(turned_away(&path));
    }
    assert_eq!(pid1.log().matches("web: started on demand").count(), 1);
    // The operator's word begins again.
    pid1.define("web", &web("enabled = false"));
    pid1.reload();
    assert_eq!(answer(connect(&path)), "served\n");
}

pub fn a_service_that_fails_until_its_limit_refuses_its_next_client() {
    let mut pid1 = Pid1::boot(&[]);
    let keys = format!(
        "sockets = [\"unix:{SOCKET}\"]\n\
         restart = {{ backoff = \"50ms..100ms\", limit = \"2/1h\" }}"
    );
    pid1.define("web", &service(&["exit 1"], &keys));
    pid1.reload();
    pid1.wait_for_state("web", ServiceState::Failed);
    let path = pid1.path(SOCKET);
    for _ in 0..3 {
        assert!(turned_away(&path));
    }
    assert_eq!(pid1.service("web").state, ServiceState::Failed);
}

pub fn a_new_socket_that_cannot_be_opened_loses_none_of_the_old_ones() {
    let mut pid1 = Pid1::boot(&[]);
    pid1.define("web", &web(""));
    pid1.define("idle", &web("enabled = false").replace("web", "idle"));
    pid1.reload();
    pid1.wait_for_state("web", ServiceState::Ready);
    std::fs::write(pid1.path("/run/wherry/taken"), "x").unwrap();
    for name in ["web", "idle"] {
        let sockets = format!(
            "sockets = [\"unix:/run/wherry/{name}-new.sock\", \"unix:/run/wherry/{name}.sock\", \
             \"unix:/run/wherry/taken\"]\nenabled = {}",
            name == "web"
        );
        pid1.define(name, &service(&["serve"], &sockets));
    }
    let told = pid1.reload();
    assert_eq!(told.len(), 2, "{told:#?}");
    assert!(
        told[0].contains("unix:/run/wherry/taken: the path exists"),
        "{told:#?}"
    );
    for name in ["web", "idle"] {
        let path = pid1.path("/run/wherry").join(format!("{name}.sock"));
        assert_eq!(answer(connect(&path)), "served\n");
        let before = pid1.service(name).pid;
        pid1.order(|service| Request::Restart { service }, name);
        // The run that ends may still take a client.
        crate::pid1::until("the next run", || {
            let line = pid1.service(name);
            line.state == ServiceState::Ready && line.pid != before
        });
        assert_eq!(answer(connect(&path)), "served\n");
        let new = pid1.path("/run/wherry").join(format!("{name}-new.sock"));
        assert!(!new.exists());
    }
    assert_eq!(pid1.read("/run/wherry/taken"), "x");
    // Removed, it leaves no name behind.
    pid1.undefine("web");
    pid1.reload();
    crate::pid1::until("its socket is gone", || !pid1.path(SOCKET).exists());
}

/// Hostile: asks for a socket by way of `..`, in the place of PID 1's own, of a file, or below a link. Outcome: each definition is refused with its key or path, and nothing is replaced.
pub fn a_socket_takes_no_place_that_is_not_its_own() {
    let mut pid1 = Pid1::boot(&[("web", web(""))]);
    std::fs::write(pid1.path("/run/wherry/file"), "x").unwrap();
    std::os::unix::fs::symlink("/state/config", pid1.path("/run/wherry/link")).unwrap();
    let places = [
        ("dots", "/run/../state/config/x", "key `sockets[0]`: "),
        ("own", "/run/wherry/init.sock", "key `sockets[0]`: "),
        ("elsewhere", "/run/x.sock", "key `sockets[0]`: "),
        ("file", "/run/wherry/file", "the path exists"),
        ("link", "/run/wherry/link/x", "unix:/run/wherry/link/x"),
        ("others", SOCKET, "the path exists"),
    ];
    for (name, path, _) in places {
        pid1.define(
            name,
            &service(&["serve"], &format!("sockets = [\"unix:{path}\"]")),
        );
    }
    let told = pid1.reload();
    for (name, _, words) in places {
        let is_told = |line: &&String| line.contains(&format!("/{name}/")) && line.contains(words);
        assert!(told.iter().any(|line| is_told(&line)), "{name}: {told:#?}");
    }
    assert!(pid1.answers_within(Duration::from_secs(20)));
    assert_eq!(answer(connect(&pid1.path(SOCKET))), "served\n");
    assert_eq!(pid1.read("/run/wherry/file"), "x");
    assert!(!pid1.path("/state/config/x").exists());
    pid1.log();
}

pub fn a_socket_is_open_to_all_users_or_as_its_definition_says() {
    use std::os::unix::fs::PermissionsExt;
    let pid1 = Pid1::boot(&[("web", web(""))]);
    let mode = || {
        let metadata = std::fs::symlink_metadata(pid1.path(SOCKET)).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(mode(), 0o666);
    pid1.define("own", &web("socket-mode = \"0600\"").replace("web", "own"));
    pid1.reload();
    let own = || {
        let metadata = std::fs::symlink_metadata(pid1.path("/run/wherry/own.sock")).unwrap();
        metadata.permissions().mode() & 0o777
    };
    assert_eq!(own(), 0o600);
    pid1.define("own", &web("socket-mode = \"0660\"").replace("web", "own"));
    pid1.reload();
    assert_eq!(own(), 0o660);
}
