//! Mirrors that lie, stall, or have nothing: the error says what and where, and
//! the next good one works.

use std::sync::atomic::{AtomicU32, Ordering};

use crate::world::{TestSlot, World, fill, hasty, root, says, uki};
use hostile_server::{Answer, Request, Server};
use release::Manifest;

fn is_root(request: &Request) -> bool {
    request.path.ends_with("/root")
}

/// A repository with a release of 600 blocks, and its root.
fn world() -> (World, Manifest, Vec<u8>) {
    let new = root(&(1..=600).collect::<Vec<_>>());
    let (world, manifest) = World::with_root(&new);
    (world, manifest, new)
}

#[tokio::test]
async fn what_a_mirror_does_wrong_is_told_and_the_next_one_works() {
    for (answer, what) in [
        (Answer::Truncated(5000), "/root: "),
        (Answer::Stalled(5000), "/root: stalled: not one byte for"),
        (Answer::Dripping, "/root: stalled: only"),
        (Answer::Flipped(5000), "is wrong"),
        (Answer::OtherRange, "/root: asked for range 'bytes "),
        (Answer::Endless, "is wrong"),
        (
            Answer::Claims(1 << 60),
            "/root: longer than the 2457600 bytes",
        ),
        (Answer::Bytes(vec![1; 5000]), "/root: "),
        (Answer::Encoded, "sent with content encoding 'gzip'"),
        (Answer::Status(404), "/root: not there"),
        (
            Answer::Status(416),
            "/root: the server answers with HTTP status 416",
        ),
        (
            Answer::Status(500),
            "/root: the server answers with HTTP status 500",
        ),
        (
            Answer::Status(503),
            "/root: the server answers with HTTP status 503",
        ),
        (
            Answer::Redirect("/releases/2/root".to_owned()),
            "more than 5 in a row",
        ),
        (
            Answer::Redirect("file:///etc/passwd".to_owned()),
            "redirect not followed: to 'file:",
        ),
    ] {
        let (mut world, manifest, new) = world();
        let wrong = answer.clone();
        let bad = Server::start(world.path(), move |request| match is_root(request) {
            true => wrong.clone(),
            false => Answer::Good,
        });
        world.publish();
        // Alone, it is an error that says what and where, and nothing wrong is in
        // the slot: it has no tree.
        let repository = world.ready(&[&bad.address]).await;
        let target = TestSlot::empty();
        let error = fill(&repository, &manifest, &target, &[])
            .await
            .unwrap_err();
        let text = says(&error);
        assert!(
            text.starts_with("no mirror gave releases/2/root as it was signed: "),
            "{answer:?}: {text}"
        );
        assert!(text.contains(what), "{answer:?}: {text}");
        assert!(text.contains(&bad.address), "{answer:?}: {text}");
        assert!(target.tree.device().now().starts_with(b"WHERRYFL"));
        // With another one, the slot is filled.
        let good = Server::good(world.path());
        world.mirrors = vec![good.address.clone()];
        world.signer.version += 1;
        world.publish();
        let repository = world.ready(&[&bad.address]).await;
        let target = TestSlot::empty();
        let fetched = fill(&repository, &manifest, &target, &[]).await;
        let fetched = fetched.unwrap_or_else(|error| panic!("{answer:?}: {}", says(&error)));
        assert!(target.holds(&new), "{answer:?}");
        let given = &fetched.mirrors[1];
        assert_eq!(given.dropped, None, "{answer:?}");
        assert!(given.bytes > 0, "{answer:?}");
    }
}

#[tokio::test]
async fn a_liar_is_dropped_for_good_and_named_with_the_reason() {
    let (mut world, manifest, new) = world();
    let liar = Server::start(world.path(), |request| match is_root(request) {
        true => Answer::Flipped(5000),
        false => Answer::Good,
    });
    let good = Server::good(world.path());
    world.mirrors = vec![good.address.clone()];
    world.publish();
    let repository = world.ready(&[&liar.address]).await;
    let target = TestSlot::empty();
    let fetched = fill(&repository, &manifest, &target, &[]).await.unwrap();
    assert!(target.holds(&new));
    let reason = fetched.mirrors[0].dropped.as_deref().unwrap();
    assert!(
        reason.starts_with(&format!("{}/releases/2/root: block ", liar.address)),
        "{reason}"
    );
    // What one wrong block costs is no more than what was under way.
    let asked = liar.requests().into_iter().filter(is_root).count();
    assert!(asked <= 4, "{asked}");
    let before = liar.requests().len();
    let loader = repository.artifact(&manifest.loader).await.unwrap();
    assert_eq!(loader, b"a boot loader");
    assert_eq!(liar.requests().len(), before);
}

#[tokio::test]
async fn a_busy_server_is_asked_again() {
    let (world, manifest, new) = world();
    let count = AtomicU32::new(0);
    let server = Server::start(world.path(), move |request| {
        match count.fetch_add(1, Ordering::SeqCst) % 5 {
            // Metadata, the index and the root: each is refused once in a while.
            1 => Answer::Status(503),
            3 if is_root(request) => Answer::Truncated(100_000),
            _ => Answer::Good,
        }
    });
    let mut settings = hasty(&[&server.address]);
    settings.connections = 1;
    let repository = world.open_with(settings).await.unwrap();
    repository.channel("stable").await.unwrap();
    let target = TestSlot::empty();
    let fetched = fill(&repository, &manifest, &target, &[]).await.unwrap();
    assert!(target.holds(&new));
    assert!(fetched.requests > 2);
    // What had come before the end was used.
    assert!(
        fetched.bytes < new.len() as u64 * 5 / 4,
        "{}",
        fetched.bytes
    );
}

#[tokio::test]
async fn an_index_that_is_not_what_was_signed_is_fetched_elsewhere() {
    let (mut world, manifest, new) = world();
    let liar = Server::start(world.path(), |request| {
        match request.path.ends_with("/root.index") {
            true => Answer::Flipped(40),
            false => Answer::Good,
        }
    });
    let good = Server::good(world.path());
    world.mirrors = vec![good.address.clone()];
    world.publish();
    let repository = world.ready(&[&liar.address]).await;
    let target = TestSlot::empty();
    let fetched = fill(&repository, &manifest, &target, &[]).await.unwrap();
    assert!(target.holds(&new));
    let reason = fetched.mirrors[0].dropped.as_deref().unwrap();
    assert!(reason.contains("/root.index: its SHA-256 is "), "{reason}");
}

/// An index whose short hashes fit other blocks than the tree's is what a mirror
/// with enough computers could make of short hashes: blocks that look right.
#[tokio::test]
async fn blocks_that_only_look_right_are_found_out_and_fetched_again() {
    let (mut world, _, new) = world();
    let mut forged = new.clone();
    forged[70 * 4096..72 * 4096].fill(9);
    let looks_right = world.add("3", &forged, &uki(&[(".linux", b"kernel")]));
    // The release is that of the new root, but its index accepts forged blocks.
    let mut manifest = world.offers[0].manifest.clone();
    manifest.root_index = looks_right.root_index.clone();
    world.publish();
    let asked = AtomicU32::new(0);
    let folder = world.path().to_owned();
    let server = Server::start(world.path(), move |request| {
        if !is_root(request) || asked.load(Ordering::SeqCst) > 0 {
            return Answer::Good;
        }
        if request
            .range
            .is_some_and(|(first, last)| (first..=last).contains(&(70 * 4096)))
        {
            asked.store(1, Ordering::SeqCst);
        }
        let content = std::fs::read(folder.join("releases/3/root")).unwrap();
        Answer::Bytes(content)
    });
    let mut settings = hasty(&[&server.address]);
    settings.connections = 1;
    let repository = world.open_with(settings).await.unwrap();
    let target = TestSlot::empty();
    fill(&repository, &manifest, &target, &[]).await.unwrap();
    assert!(target.holds(&new));
    // Two of the blocks were fetched twice, and the tree once.
    let asked: Vec<Request> = server.requests();
    let trees = asked
        .iter()
        .filter(|request| request.path.ends_with("/verity"));
    assert_eq!(trees.count(), 1);
}

#[tokio::test]
async fn a_release_whose_files_do_not_fit_together_is_an_error_of_the_release() {
    let (mut world, _, _) = world();
    let other = world.add(
        "3",
        &root(&(2..=601).collect::<Vec<_>>()),
        &uki(&[(".linux", b"x")]),
    );
    let mut manifest = world.offers[0].manifest.clone();
    manifest.root_hash = other.root_hash;
    world.publish();
    let repository = world.ready(&[world.path().to_str().unwrap()]).await;
    let target = TestSlot::empty();
    let error = fill(&repository, &manifest, &target, &[])
        .await
        .unwrap_err();
    let text = says(&error);
    assert!(
        text.contains("releases/2/verity is as it was signed, but"),
        "{text}"
    );
    assert!(text.contains("has to be published again"), "{text}");
    assert!(target.tree.device().now().starts_with(b"WHERRYFL"));
}
