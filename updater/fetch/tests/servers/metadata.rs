//! Metadata: what is trusted, and how wrong metadata is reported.

use std::fs;

use fetch::FetchError;
use tempfile::TempDir;

use crate::tuf::{Key, Signer};
use crate::world::{World, copy, root, says};
use hostile_server::{Answer, Server};

fn world() -> World {
    World::with_root(&root(&[1, 2, 3])).0
}

/// What opening this address says is wrong.
async fn refused(world: &World, address: &str) -> String {
    says(&world.open(&[address]).await.err().unwrap())
}

#[tokio::test]
async fn a_channel_is_read_from_a_server_a_folder_and_a_file_address() {
    let world = world();
    let server = Server::good(world.path());
    let folder = world.path().to_str().unwrap();
    let file = format!("file://{folder}");
    let by_name = server.address.replace("127.0.0.1", "localhost");
    for address in [&server.address, &by_name, folder, &file] {
        let repository = world.open(&[address]).await.unwrap();
        let channel = repository.channel("stable").await.unwrap();
        assert_eq!(channel.offers, world.offers);
        let loader = repository
            .artifact(&channel.offers[0].manifest.loader)
            .await
            .unwrap();
        assert_eq!(loader, b"a boot loader");
    }
}

#[tokio::test]
async fn a_proxy_is_asked_for_what_is_elsewhere() {
    let world = world();
    let proxy = Server::good(world.path());
    let mut settings = crate::world::hasty(&["http://nowhere.invalid"]);
    settings.proxy = Some(proxy.address.clone());
    let repository = world.open_with(settings).await.unwrap();
    repository.channel("stable").await.unwrap();
    assert_eq!(repository.address(), "http://nowhere.invalid/");
}

#[tokio::test]
async fn a_server_with_an_authority_of_its_own_is_trusted_when_that_is_given() {
    let world = world();
    let (server, certificate) = Server::safe(world.path(), |_| Answer::Good);
    let text = refused(&world, &server.address).await;
    assert!(text.contains("invalid peer certificate"), "{text}");
    let mut settings = crate::world::hasty(&[&server.address]);
    settings.certificates = certificate.clone().into_bytes();
    let repository = world.open_with(settings).await.unwrap();
    repository.channel("stable").await.unwrap();
    // And it does not lead to a server that is not safe.
    let plain = Server::good(world.path());
    let to = plain.address.clone();
    let (server, certificate) = Server::safe(world.path(), move |request| {
        Answer::Redirect(format!("{to}/{}", request.path))
    });
    let mut settings = crate::world::hasty(&[&server.address]);
    settings.certificates = certificate.into_bytes();
    let text = says(&world.open_with(settings).await.err().unwrap());
    assert!(
        text.contains(&format!(
            "redirect not followed: from https to {}",
            plain.address
        )),
        "{text}"
    );
    assert_eq!(plain.requests(), []);
}

#[tokio::test]
async fn certificates_that_are_none_are_refused() {
    let world = world();
    for wrong in [
        "nothing",
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
    ] {
        let mut settings = crate::world::hasty(&["/srv"]);
        settings.certificates = wrong.as_bytes().to_vec();
        let error = world.open_with(settings).await.err().unwrap();
        assert!(says(&error).starts_with("certificates: "), "{error}");
    }
}

#[tokio::test]
async fn old_metadata_is_a_replay_and_the_next_repository_is_asked() {
    let mut world = world();
    let old = TempDir::new().unwrap();
    copy(world.path(), old.path());
    world.signer.version = 2;
    world.publish();
    let (new, old) = (Server::good(world.path()), Server::good(old.path()));
    world.open(&[&new.address]).await.unwrap();
    let text = refused(&world, &old.address).await;
    assert!(
        text.contains(&format!(
            "{}/metadata/timestamp.json: replayed: its timestamp metadata has version 1, and \
             version 2 was seen before",
            old.address
        )),
        "{text}"
    );
    let repository = world.open(&[&old.address, &new.address]).await.unwrap();
    assert_eq!(repository.address(), format!("{}/", new.address));
    repository.channel("stable").await.unwrap();
}

#[tokio::test]
async fn expired_metadata_is_told_with_role_time_and_clock() {
    for role in ["root", "timestamp", "snapshot", "targets"] {
        let mut world = World::new();
        world
            .signer
            .expires
            .insert(role, "2020-02-03T04:05:06Z".to_owned());
        world.trust = world.signer.write_root(world.path(), &[]);
        world.publish();
        let server = Server::good(world.path());
        let text = refused(&world, &server.address).await;
        assert!(
            text.contains(&format!(
                "its {role} metadata expired at 2020-02-03T04:05:06Z"
            )),
            "{text}"
        );
        assert!(text.contains("this machine's clock says 20"), "{text}");
        assert!(text.contains("set the clock if it is wrong"), "{text}");
        // Nothing of it is kept but the root.
        let kept = fs::read_dir(world.datastore.path()).unwrap();
        let mut kept: Vec<String> = kept
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        kept.sort();
        assert_eq!(kept, ["root.json"]);
    }
}

#[tokio::test]
async fn a_clock_that_was_once_in_the_future_locks_nobody_out() {
    let mut world = world();
    let address = world.path().to_str().unwrap().to_owned();
    world.open(&[&address]).await.unwrap();
    // What the library remembers of a run with a wrong clock, wherever it looks.
    for folder in [
        world.datastore.path().to_owned(),
        world.datastore.path().join("unproven"),
    ] {
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join("latest_known_time.json"),
            "\"2998-01-01T00:00:00Z\"",
        )
        .unwrap();
    }
    world.open(&[&address]).await.unwrap();
    // And old metadata is still a replay.
    let old = TempDir::new().unwrap();
    copy(world.path(), old.path());
    world.signer.version = 2;
    world.publish();
    world.open(&[&address]).await.unwrap();
    let text = refused(&world, old.path().to_str().unwrap()).await;
    assert!(text.contains("replayed"), "{text}");
}

#[tokio::test]
async fn looking_for_news_costs_little_when_there_are_none() {
    let mut world = world();
    let server = Server::good(world.path());
    let asked = |from: usize| -> Vec<String> {
        let requests = server.requests();
        requests[from..]
            .iter()
            .map(|request| request.path.clone())
            .collect()
    };
    world.ready(&[&server.address]).await;
    let before = server.requests().len();
    world.ready(&[&server.address]).await;
    assert_eq!(
        asked(before),
        ["metadata/2.root.json", "metadata/timestamp.json"]
    );
    // What is kept is verified like everything else, and fetched where it is wrong.
    let documents = world.datastore.path().join("documents");
    for entry in fs::read_dir(&documents).unwrap() {
        fs::write(entry.unwrap().path(), "{}").unwrap();
    }
    world.ready(&[&server.address]).await;
    // News are fetched, and take the place of what was kept.
    world.signer.version = 2;
    world.publish();
    let before = server.requests().len();
    world.ready(&[&server.address]).await;
    assert_eq!(
        asked(before),
        [
            "metadata/2.root.json",
            "metadata/timestamp.json",
            "metadata/2.snapshot.json",
            "metadata/2.targets.json",
        ],
        "the channel is the same"
    );
    assert_eq!(fs::read_dir(&documents).unwrap().count(), 3);
}

/// Rotates all keys; gives those that are no more.
fn rotate(signer: &mut Signer) -> (Vec<Key>, Key) {
    signer.root_version += 1;
    let root = std::mem::replace(&mut signer.root, vec![Key::new(), Key::new()]);
    (root, std::mem::replace(&mut signer.online, Key::new()))
}

#[tokio::test]
async fn a_chain_of_roots_leads_to_keys_that_the_machine_never_saw() {
    let mut world = world();
    for _ in 0..3 {
        let (former, _) = rotate(&mut world.signer);
        world.signer.write_root(world.path(), &former);
    }
    world.signer.version = 2;
    world.publish();
    let server = Server::good(world.path());
    world.ready(&[&server.address]).await;
    // The next run begins where this one ended.
    let before = server.requests().len();
    world.ready(&[&server.address]).await;
    let asked: Vec<String> = server.requests()[before..]
        .iter()
        .map(|request| request.path.clone())
        .filter(|path| path.ends_with("root.json"))
        .collect();
    assert_eq!(asked, ["metadata/5.root.json"]);
}

#[tokio::test]
async fn a_key_that_was_taken_away_signs_nothing_any_more() {
    let mut world = world();
    let old = TempDir::new().unwrap();
    copy(world.path(), old.path());
    let (former, stolen) = rotate(&mut world.signer);
    world.signer.write_root(world.path(), &former);
    // Somebody has the old key, and signs a newer version with it.
    let mut thief = Signer::new();
    thief.online = stolen;
    thief.version = 99;
    thief.write(world.path(), &[]);
    let server = Server::good(world.path());
    let text = refused(&world, &server.address).await;
    assert!(
        text.contains("its timestamp metadata is not signed by enough keys that the root trusts"),
        "{text}"
    );
    // Not even from a mirror that keeps the new root back, and the machine has
    // forgotten nothing when its own anchor is that old.
    thief.write(old.path(), &[]);
    let backward = Server::good(old.path());
    let text = refused(&world, &backward.address).await;
    assert!(text.contains("not signed by enough keys"), "{text}");
    // The rightful one works.
    world.signer.version = 2;
    world.publish();
    world.ready(&[&backward.address, &server.address]).await;
}

#[tokio::test]
async fn a_root_that_the_former_keys_did_not_sign_is_no_root() {
    let mut world = world();
    rotate(&mut world.signer);
    world.signer.write_root(world.path(), &[]);
    world.publish();
    let server = Server::good(world.path());
    let text = refused(&world, &server.address).await;
    assert!(
        text.contains("2.root.json: its root metadata is not signed by enough keys"),
        "{text}"
    );
}

#[tokio::test]
async fn a_server_that_cannot_say_whether_there_is_a_newer_root_is_not_good() {
    let world = world();
    let server = Server::start(world.path(), |request| {
        match request.path.ends_with("2.root.json") {
            true => Answer::Status(503),
            false => Answer::Good,
        }
    });
    let text = refused(&world, &server.address).await;
    assert!(
        text.contains("/metadata/2.root.json: the server answers with HTTP status 503"),
        "{text}"
    );
}

#[tokio::test]
async fn a_newer_anchor_of_the_same_repository_keeps_what_was_seen_another_one_does_not() {
    let mut world = world();
    let old = TempDir::new().unwrap();
    let (former, _) = rotate(&mut world.signer);
    world.signer.write_root(world.path(), &former);
    world.publish();
    copy(world.path(), old.path());
    world.signer.version = 2;
    world.publish();
    let address = world.path().to_str().unwrap().to_owned();
    world.open(&[&address]).await.unwrap();
    // A release brings a later root as its anchor.
    let first = std::mem::replace(&mut world.trust, world.signer.root(&former));
    let text = refused(&world, old.path().to_str().unwrap()).await;
    assert!(text.contains("replayed"), "{text}");
    // And a rollback the first one again.
    world.trust = first;
    let text = refused(&world, old.path().to_str().unwrap()).await;
    assert!(text.contains("replayed"), "{text}");
    // An operator moves the machine to another repository, whose versions are lower.
    let mut other = World::new();
    other.publish();
    other.datastore = std::mem::replace(&mut world.datastore, TempDir::new().unwrap());
    let folder = other.path().to_str().unwrap().to_owned();
    other.ready(&[&folder]).await;
}

#[tokio::test]
async fn a_trust_anchor_that_is_none_is_told_as_that() {
    let mut world = world();
    let mut forged: serde_json::Value = serde_json::from_slice(&world.trust).unwrap();
    forged["signed"]["version"] = 7.into();
    for trust in [
        b"{}".to_vec(),
        Vec::new(),
        serde_json::to_vec(&forged).unwrap(),
    ] {
        world.trust = trust;
        let error = world.open(&["/nowhere"]).await.err().unwrap();
        assert!(matches!(error, FetchError::Anchor(_)), "{error}");
        assert!(says(&error).contains("update-root.json"), "{error}");
    }
}

#[tokio::test]
async fn documents_without_end_or_of_absurd_size_are_cut_off() {
    let mut world = world();
    for (answer, what) in [
        (Answer::Endless, "longer than the 524288 bytes it may have"),
        (
            Answer::Claims(1 << 60),
            "longer than the 524288 bytes it may have",
        ),
        (Answer::Bytes(vec![b' '; 70_000]), "Maximum size 65536"),
        (
            Answer::Bytes(b"{}".to_vec()),
            "Failed to parse timestamp metadata",
        ),
        (Answer::Truncated(40), "timestamp.json: "),
        (Answer::Stalled(40), "stalled: not one byte for"),
        (Answer::Encoded, "sent with content encoding 'gzip'"),
        (Answer::Status(404), "timestamp.json: not there"),
        (Answer::Status(500), "HTTP status 500"),
        (
            Answer::Redirect("/metadata/timestamp.json".to_owned()),
            "more than 5 in a row",
        ),
        (
            Answer::Redirect("ftp://a/b".to_owned()),
            "redirect not followed: to ftp://a/b",
        ),
    ] {
        let wrong = answer.clone();
        let server = Server::start(world.path(), move |request| {
            match request.path.ends_with("timestamp.json") {
                true => wrong.clone(),
                false => Answer::Good,
            }
        });
        let text = refused(&world, &server.address).await;
        assert!(text.contains(what), "{answer:?}: {text}");
        assert!(text.contains(&server.address), "{answer:?}: {text}");
        // The next good one works, and nothing of the bad one was kept.
        let good = Server::good(world.path());
        world.ready(&[&server.address, &good.address]).await;
        world.datastore = TempDir::new().unwrap();
    }
}

#[tokio::test]
async fn a_mirror_with_half_of_the_metadata_leaves_no_trace() {
    let mut world = world();
    let old = TempDir::new().unwrap();
    copy(world.path(), old.path());
    world.signer.version = 2;
    world.publish();
    let half = Server::start(world.path(), |request| {
        match request.path.ends_with("2.targets.json") {
            true => Answer::Status(404),
            false => Answer::Good,
        }
    });
    let behind = Server::good(old.path());
    let repository = world.open(&[&half.address, &behind.address]).await.unwrap();
    assert_eq!(repository.address(), format!("{}/", behind.address));
}

#[tokio::test]
async fn a_channel_that_is_wrong_is_told_as_that() {
    let world = world();
    let repository = world.open(&[world.path().to_str().unwrap()]).await.unwrap();
    let text = says(&repository.channel("beta").await.unwrap_err());
    assert_eq!(
        text,
        "channel 'beta': not in the repository, which has: stable"
    );
    let mut absurd: serde_json::Value = serde_json::to_value(world.offers[0].clone()).unwrap();
    absurd["manifest"]["root"]["length"] = u64::MAX.into();
    let channel = |value: serde_json::Value| serde_json::to_vec(&value).unwrap();
    for (file, what) in [
        (
            channel(serde_json::json!({
                "format": 1, "name": "stable", "offers": [absurd]
            })),
            "root.length",
        ),
        (
            channel(serde_json::json!({ "format": 1, "name": "beta", "offers": [] })),
            "its file is that of 'beta'",
        ),
        (
            channel(serde_json::json!({ "format": 9, "name": "stable", "offers": [] })),
            "format 9",
        ),
        (vec![b' '; 300 << 10], "at most 262144 are read"),
    ] {
        let mut world = World::new();
        world.trust = world.signer.write_root(world.path(), &[]);
        world.signer.write(world.path(), &[("stable.json", file)]);
        let repository = world.open(&[world.path().to_str().unwrap()]).await.unwrap();
        let text = says(&repository.channel("stable").await.unwrap_err());
        assert!(text.starts_with("channel 'stable': "), "{text}");
        assert!(text.contains(what), "{text}");
    }
}

#[tokio::test]
async fn a_channel_whose_file_is_not_what_was_signed_is_refused() {
    let world = world();
    let server = Server::start(world.path(), |request| {
        match request.path.ends_with(".stable.json") {
            true => Answer::Flipped(10),
            false => Answer::Good,
        }
    });
    let repository = world.open(&[&server.address]).await.unwrap();
    let text = says(&repository.channel("stable").await.unwrap_err());
    assert!(text.contains("Hash mismatch"), "{text}");
}

#[tokio::test]
async fn settings_that_cannot_be_used_are_told_by_name() {
    let world = world();
    let error = world.open(&[]).await.err().unwrap();
    assert!(
        says(&error).starts_with("repositories: none is set"),
        "{error}"
    );
    let error = world.open(&["gopher://a"]).await.err().unwrap();
    assert!(
        says(&error).starts_with("repository 'gopher://a': "),
        "{error}"
    );
    let mut settings = crate::world::hasty(&["/srv"]);
    settings.proxy = Some("socks5://a:1".to_owned());
    let error = world.open_with(settings).await.err().unwrap();
    assert!(says(&error).starts_with("proxy: "), "{error}");
}

#[tokio::test]
async fn a_repository_without_channels_says_so() {
    let world = World::new();
    world.signer.write(world.path(), &[]);
    let repository = world.open(&[world.path().to_str().unwrap()]).await.unwrap();
    let error = repository.channel("stable").await.unwrap_err();
    assert_eq!(
        says(&error),
        "channel 'stable': not in the repository, which has no channels: nothing has been \
         published there yet"
    );
}

/// The metadata's next root, changed by `change`, as `N.root.json`.
fn write_next_root(world: &World, change: impl FnOnce(&mut serde_json::Value), former: &[Key]) {
    let mut root = serde_json::from_slice(&world.signer.root(former)).unwrap();
    change(&mut root);
    let name = format!("metadata/{}.root.json", world.signer.root_version);
    fs::write(world.path().join(name), serde_json::to_vec(&root).unwrap()).unwrap();
}

/// Hostile: A mirror shows a new root that one of the two former root keys has signed twice (CVE-2020-15093 of tough). Outcome: It counts once, and the root is refused.
#[tokio::test]
async fn a_key_that_signs_twice_counts_once() {
    let mut world = world();
    let (former, _) = rotate(&mut world.signer);
    let address = world.path().to_str().unwrap().to_owned();
    let twice = |root: &mut serde_json::Value| {
        let signatures = root["signatures"].as_array_mut().unwrap();
        let last = signatures.last().unwrap().clone();
        signatures.push(last);
    };
    write_next_root(&world, twice, &former[..1]);
    world.publish();
    assert!(world.open(&[&address]).await.is_err());
    // With the other one it is good.
    write_next_root(&world, |_| {}, &former);
    world.ready(&[&address]).await;
}

/// Hostile: A mirror gives the present root again as the next one (CVE-2025-2885 of tough). Outcome: Its version is not the one in its name, and it is refused.
#[tokio::test]
async fn a_root_under_another_versions_name_is_refused() {
    let world = world();
    let address = world.path().to_str().unwrap().to_owned();
    world.ready(&[&address]).await;
    let metadata = world.path().join("metadata");
    fs::copy(metadata.join("1.root.json"), metadata.join("2.root.json")).unwrap();
    let text = refused(&world, &address).await;
    assert!(text.contains("version"), "{text}");
    fs::remove_file(metadata.join("2.root.json")).unwrap();
    world.ready(&[&address]).await;
}
