//! Clients that send garbage, say nothing, or ask for what they may not.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use control::{
    FrameBuffer, Hello, MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request, ServiceState, encode,
};

use crate::pid1::{Pid1, service, until};

fn connect(pid1: &Pid1) -> UnixStream {
    let stream = UnixStream::connect(pid1.path(control::SOCKET)).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
        .set_write_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream
}

/// As [`connect`], with the client's greeting sent.
fn greeted(pid1: &Pid1) -> UnixStream {
    let mut stream = connect(pid1);
    let hello = encode(&Hello::of::<control::Init>(), MAX_REQUEST).unwrap();
    stream.write_all(&hello).unwrap();
    stream
}

/// All that PID 1 answers until it closes the connection, after its greeting.
fn replies(mut stream: UnixStream) -> Vec<Reply> {
    let mut bytes = Vec::new();
    // Closed with unread bytes, the connection ends with an error.
    let _ = stream.read_to_end(&mut bytes);
    let mut buffer = FrameBuffer::new(MAX_REPLY);
    buffer.push(&bytes);
    let hello = buffer.next_frame().unwrap().unwrap();
    let _: Hello = serde_json::from_slice(&hello).unwrap();
    let mut replies = Vec::new();
    while let Some(frame) = buffer.next_frame().unwrap() {
        replies.push(serde_json::from_slice(&frame).unwrap());
    }
    replies
}

pub fn garbage_is_refused_and_nothing_else_happens() {
    let pid1 = Pid1::boot(&[("web", service(&["forever"], ""))]);
    let before = pid1.status();
    let mut seed = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut inputs: Vec<Vec<u8>> = (0..50)
        // A length over the limit, whatever follows.
        .map(|_| {
            let mut bytes: Vec<u8> = (0..2500).flat_map(|_| random().to_ne_bytes()).collect();
            bytes[3] |= 1;
            bytes
        })
        .collect();
    inputs.push(b"\x04\0\0\0abcd".to_vec());
    inputs.push(b"\x02\0\0\0{}".to_vec());
    inputs.push(encode(&"status", 100).unwrap());
    inputs.push(
        encode(
            &serde_json::json!({ "request": "show", "service": "web", "more": 1 }),
            100,
        )
        .unwrap(),
    );
    inputs.push(encode(&serde_json::json!({ "request": "start" }), 100).unwrap());
    for input in inputs {
        let mut stream = greeted(&pid1);
        let _ = stream.write_all(&input);
        let replies = replies(stream);
        assert!(
            matches!(
                replies.as_slice(),
                [Reply::Refused(Refusal::Malformed { .. })]
            ),
            "{replies:?} to {:?}",
            &input[..input.len().min(40)]
        );
    }
    // A frame that never ends, and nothing at all, are answered by nothing.
    for silence in [&b"\xff\0\0\0{"[..], b""] {
        let mut stream = greeted(&pid1);
        stream.write_all(silence).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(replies(stream), []);
    }
    let after = pid1.status();
    for (before, after) in before.services.iter().zip(&after.services) {
        assert_eq!((before.pid, before.state), (after.pid, after.state));
    }
    assert_eq!(after.machine.reexecuted, 0);
    assert_eq!(after.machine.degraded, before.machine.degraded);
}

/// Hostile: A service with the control socket opens hundreds of connections and says nothing. Outcome: Others are served at once.
pub fn clients_that_say_nothing_do_not_keep_others_out() {
    let pid1 = Pid1::boot(&[]);
    let before = pid1.descriptors();
    let silent: Vec<UnixStream> = (0..200).map(|_| connect(&pid1)).collect();
    assert!(pid1.answers_within(Duration::from_secs(20)));
    assert!(pid1.descriptors() < before + 100);
    drop(silent);
    until("they are gone", || pid1.descriptors() <= before + 2);
}

pub fn a_watcher_that_does_not_read_is_dropped() {
    let pid1 = Pid1::boot(&[]);
    pid1.define(
        "talker",
        &service(
            &[
                "notify READY=1",
                "chatter 20000",
                "notify STATUS=done",
                "forever",
            ],
            "ready = \"notify\"",
        ),
    );
    let deaf = greeted(&pid1);
    (&deaf)
        .write_all(&encode(&Request::Watch, 100).unwrap())
        .unwrap();
    pid1.reload();
    until("all is said", || pid1.service("talker").detail == "done");
    // What fitted into the kernel's buffers, and then the end instead of the
    // other ten megabytes.
    let mut bytes = Vec::new();
    let _ = (&deaf).read_to_end(&mut bytes);
    assert!(
        (1000..2 << 20).contains(&bytes.len()),
        "{} bytes",
        bytes.len()
    );
}

pub fn a_pipelined_flood_of_requests_is_answered_in_order() {
    let pid1 = Pid1::boot(&[("web", service(&["forever"], ""))]);
    let mut stream = greeted(&pid1);
    let show = encode(
        &Request::Show {
            service: "web".to_owned(),
        },
        100,
    )
    .unwrap();
    let unknown = encode(
        &Request::Show {
            service: "nobody".to_owned(),
        },
        100,
    )
    .unwrap();
    for _ in 0..20 {
        stream
            .write_all(&[show.clone(), unknown.clone()].concat())
            .unwrap();
    }
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let replies = replies(stream);
    assert_eq!(replies.len(), 40);
    for pair in replies.chunks(2) {
        assert!(matches!(pair[0], Reply::Service(_)), "{pair:?}");
        assert!(
            matches!(pair[1], Reply::Refused(Refusal::UnknownService { .. })),
            "{pair:?}"
        );
    }
}

pub fn another_user_may_look_and_not_touch() {
    let mut pid1 = Pid1::boot(&[("web", service(&["forever"], ""))]);
    let ask = |expected: &str, request: &Request| {
        let json = serde_json::to_string(request).unwrap();
        format!("ask /run/machine/init.sock {expected} {json}")
    };
    let service = |service: &str| service.to_owned();
    let steps = [
        ask("granted", &Request::Status),
        ask(
            "granted",
            &Request::Show {
                service: service("web"),
            },
        ),
        ask(
            "refused",
            &Request::Stop {
                service: service("web"),
            },
        ),
        ask("refused", &Request::Reload),
        ask("refused", &Request::Poweroff),
    ];
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let keys = "ready = \"exit\"\nrestart = { policy = \"never\" }\nuser = \"1000\"\n\
                mounts = [{ source = \"/run/wherry\", target = \"/run/machine\" }]";
    pid1.define("stranger", &crate::pid1::service(&steps, keys));
    pid1.reload();
    // Each step fails unless it gets what a stranger should.
    let line = pid1.wait_for_state("stranger", ServiceState::Ended);
    assert_eq!(line.restarts, 0);
    assert_eq!(pid1.service("web").state, ServiceState::Ready);
}
