//! Requests to real servers on loopback, good ones and hostile ones.
#![allow(clippy::unwrap_used, clippy::expect_used)] // All of it is a test.

use std::fs;
use std::time::{Duration, Instant};

use hostile_server::{Answer, Server};
use http_client::{Bounds, Client, Failure, Fault, Patience, Settings, Wanted};
use tempfile::TempDir;

/// A file's content, of a length that no chunk or page has.
fn content() -> Vec<u8> {
    (0..30_001_u32).map(|at| (at / 7) as u8).collect()
}

/// A folder with the file.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), content()).unwrap();
    folder
}

/// Settings that do not wait long.
fn hasty() -> Settings {
    Settings {
        patience: Patience {
            connect: Duration::from_secs(2),
            idle: Duration::from_secs(1),
            window: Duration::from_millis(400),
            least_rate: 1000,
        },
        ..Settings::new("test/1")
    }
}

/// What `server` gives for the file.
async fn get(settings: &Settings, server: &Server, wanted: &Wanted) -> Result<Vec<u8>, Failure> {
    let client = Client::new(settings).unwrap();
    let url = format!("{}/file", server.address).parse().unwrap();
    client.get(&url, wanted).await?.all().await
}

fn whole() -> Wanted {
    Wanted::Whole(content().len() as u64)
}

#[tokio::test]
async fn what_a_server_does_wrong_is_told_and_ends() {
    let folder = folder();
    let length = content().len() as u64;
    type Expected = fn(&Fault) -> bool;
    let cases: [(Answer, Expected); 13] = [
        (Answer::Truncated(5000), |fault| {
            matches!(fault, Fault::Broken(_) | Fault::Short { .. })
        }),
        (Answer::Stalled(5000), |fault| *fault == Fault::Stalled(1)),
        (Answer::Stalled(0), |fault| *fault == Fault::Stalled(1)),
        (Answer::Dripping, |fault| {
            matches!(fault, Fault::Slow(1..1000))
        }),
        (Answer::Claims(1 << 60), |fault| {
            *fault == Fault::Long { expected: 30_001 }
        }),
        (Answer::Bytes(vec![1; 5000]), |fault| {
            *fault
                == Fault::Short {
                    got: 5000,
                    expected: 30_001,
                }
        }),
        (Answer::Encoded, |fault| {
            *fault == Fault::Encoded("gzip".to_owned())
        }),
        (Answer::Status(404), |fault| *fault == Fault::NotFound),
        (Answer::Status(416), |fault| *fault == Fault::Status(416)),
        (Answer::Status(503), |fault| *fault == Fault::Status(503)),
        // Not the bytes that were asked for, whatever they are.
        (Answer::Status(204), |fault| *fault == Fault::Status(204)),
        (Answer::Redirect("/file".to_owned()), |fault| {
            *fault == Fault::Redirect("more than 5 in a row".to_owned())
        }),
        (Answer::Redirect("file:///etc/passwd".to_owned()), |fault| {
            *fault == Fault::Redirect("to 'file:///etc/passwd'".to_owned())
                || *fault == Fault::Redirect("to file:///etc/passwd".to_owned())
        }),
    ];
    for (answer, expected) in cases {
        let server = Server::start(folder.path(), {
            let answer = answer.clone();
            move |_| answer.clone()
        });
        let begun = Instant::now();
        let failure = get(&hasty(), &server, &Wanted::Whole(length))
            .await
            .expect_err(&format!("{answer:?}"));
        assert!(expected(&failure.fault), "{answer:?}: {failure}");
        assert!(failure.address.starts_with(&server.address), "{failure}");
        assert!(begun.elapsed() < Duration::from_secs(5), "{answer:?}");
    }
}

#[tokio::test]
async fn an_endless_answer_ends_at_its_bound() {
    let folder = folder();
    let server = Server::start(folder.path(), |_| Answer::Endless);
    let got = get(&hasty(), &server, &Wanted::Whole(10_000))
        .await
        .unwrap();
    assert_eq!(got, [b'x'; 10_000]);
    let failure = get(&hasty(), &server, &Wanted::AtMost(10_000))
        .await
        .unwrap_err();
    assert_eq!(failure.fault, Fault::Long { expected: 10_000 });
}

#[tokio::test]
async fn a_file_of_unknown_length_is_taken_up_to_its_bound() {
    let folder = folder();
    let server = Server::good(folder.path());
    let length = content().len() as u64;
    for bound in [length, length + 1, u64::MAX] {
        let got = get(&hasty(), &server, &Wanted::AtMost(bound))
            .await
            .unwrap();
        assert!(got == content(), "{bound}");
    }
    let failure = get(&hasty(), &server, &Wanted::AtMost(length - 1))
        .await
        .unwrap_err();
    assert_eq!(
        failure.fault,
        Fault::Long {
            expected: length - 1
        }
    );
}

#[tokio::test]
async fn a_part_is_what_was_asked_for_or_the_whole_file() {
    let folder = folder();
    let length = content().len() as u64;
    let part = Wanted::Part {
        range: 100..300,
        length,
    };
    let good = Server::good(folder.path());
    assert_eq!(
        get(&hasty(), &good, &part).await.unwrap(),
        content()[100..300]
    );
    assert_eq!(good.ranges("file"), [(100, 299)]);

    let other = Server::start(folder.path(), |_| Answer::OtherRange);
    let failure = get(&hasty(), &other, &part).await.unwrap_err();
    assert!(matches!(failure.fault, Fault::Range { .. }), "{failure}");

    let rangeless = Server::start(folder.path(), |_| Answer::Whole);
    let client = Client::new(&hasty()).unwrap();
    let url = format!("{}/file", rangeless.address).parse().unwrap();
    let body = client.get(&url, &part).await.unwrap();
    assert!(body.is_whole());
    assert!(body.all().await.unwrap() == content());

    let longer = Wanted::Part {
        range: 100..300,
        length: length + 1,
    };
    assert!(get(&hasty(), &good, &longer).await.is_err());
}

#[tokio::test]
async fn redirects_are_followed_a_few_times_and_never_from_https_to_http() {
    let folder = folder();
    let plain = Server::good(folder.path());
    let target = format!("{}/file", plain.address);
    let elsewhere = Server::start(folder.path(), {
        let target = target.clone();
        move |_| Answer::Redirect(target.clone())
    });
    assert!(get(&hasty(), &elsewhere, &whole()).await.unwrap() == content());
    let none = Settings {
        redirects: 0,
        ..hasty()
    };
    let failure = get(&none, &elsewhere, &whole()).await.unwrap_err();
    assert_eq!(failure.fault, Fault::Redirect(format!("to '{target}'")));

    let (safe, certificate) =
        Server::safe(folder.path(), move |_| Answer::Redirect(target.clone()));
    let trusting = Settings {
        certificates: certificate.into_bytes(),
        ..hasty()
    };
    let failure = get(&trusting, &safe, &whole()).await.unwrap_err();
    assert!(
        matches!(&failure.fault, Fault::Redirect(why) if why.starts_with("from https to http:")),
        "{failure}"
    );
}

#[tokio::test]
async fn only_a_trusted_authority_vouches_for_a_server() {
    let folder = folder();
    let (server, certificate) = Server::safe(folder.path(), |_| Answer::Good);
    let failure = get(&hasty(), &server, &whole()).await.unwrap_err();
    assert!(matches!(failure.fault, Fault::Connect(_)), "{failure}");
    assert!(server.requests().is_empty());
    let trusting = Settings {
        certificates: certificate.into_bytes(),
        ..hasty()
    };
    assert!(get(&trusting, &server, &whole()).await.unwrap() == content());
    for wrong in [
        "no certificate",
        "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    ] {
        let settings = Settings {
            certificates: wrong.as_bytes().to_vec(),
            ..hasty()
        };
        assert_eq!(Client::new(&settings).unwrap_err().what, "certificates");
    }
}

#[tokio::test]
async fn a_proxy_is_asked_for_everything_and_nobody_else() {
    let folder = folder();
    let proxy = Server::good(folder.path());
    let settings = Settings {
        proxy: Some(proxy.address.clone()),
        ..hasty()
    };
    let client = Client::new(&settings).unwrap();
    // Nobody resolves this name; the proxy has the file.
    let url = "http://name.invalid/file".parse().unwrap();
    let got = client
        .get(&url, &whole())
        .await
        .unwrap()
        .all()
        .await
        .unwrap();
    assert!(got == content());
    for wrong in ["", "socks5://127.0.0.1:1", "127.0.0.1:1"] {
        let settings = Settings {
            proxy: Some(wrong.to_owned()),
            ..hasty()
        };
        assert_eq!(Client::new(&settings).unwrap_err().what, "proxy", "{wrong}");
    }
}

#[tokio::test]
async fn a_port_where_nobody_listens_and_a_name_that_is_none_are_no_connection() {
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let client = Client::new(&hasty()).unwrap();
    for address in [
        format!("http://{port}/secret?token=1"),
        "http://name.invalid/".to_owned(),
    ] {
        let url = address.parse().unwrap();
        let failure = client.get(&url, &whole()).await.unwrap_err();
        assert!(matches!(failure.fault, Fault::Connect(_)), "{failure}");
        assert!(!failure.to_string().contains("token"), "{failure}");
    }
}

#[tokio::test]
async fn bytes_and_requests_are_counted_and_the_rate_is_limited() {
    let folder = folder();
    let server = Server::good(folder.path());
    let settings = Settings {
        rate_limit: Some(60_000),
        ..hasty()
    };
    let client = Client::new(&settings).unwrap();
    let url = format!("{}/file", server.address).parse().unwrap();
    let begun = Instant::now();
    for _ in 0..2 {
        let got = client
            .clone()
            .get(&url, &whole())
            .await
            .unwrap()
            .all()
            .await
            .unwrap();
        assert!(got == content());
    }
    assert_eq!((client.received(), client.requests()), (60_002, 2));
    // A second's worth, less what may come at once.
    assert!(
        begun.elapsed() > Duration::from_millis(700),
        "{:?}",
        begun.elapsed()
    );
    // Both came over one connection.
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn the_answer_to_what_is_sent_is_given_whatever_its_status_within_its_bounds() {
    let folder = folder();
    let bounds = Bounds {
        time: Duration::from_secs(1),
        length: 4096,
    };
    let settings = Settings {
        redirects: 0,
        ..hasty()
    };
    let post = async |answer: Answer| {
        let server = Server::start(folder.path(), move |_| answer.clone());
        let client = Client::new(&settings).unwrap();
        let url = format!("{}/file", server.address).parse().unwrap();
        let headers = [("content-type", "application/json")];
        client.post(&url, &headers, String::new(), bounds).await
    };
    let answer = post(Answer::Bytes(b"yes".to_vec())).await.unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, &b"yes"[..]));
    let answer = post(Answer::Status(409)).await.unwrap();
    assert_eq!((answer.status, answer.body.len()), (409, 0));
    let answer = post(Answer::Redirect("http://127.0.0.1:1/".to_owned()))
        .await
        .unwrap();
    assert_eq!(answer.status, 302);
    let answer = post(Answer::Endless).await.unwrap();
    assert_eq!(answer.body, [b'x'; 4096]);
    let failure = post(Answer::Stalled(10)).await.unwrap_err();
    assert_eq!(failure.fault, Fault::Late(1));
    let failure = post(Answer::Truncated(10)).await.unwrap_err();
    assert!(matches!(failure.fault, Fault::Broken(_)), "{failure}");
}
