//! Filling a slot: what is here is used, what is not is fetched, once.

use block_device::BlockDevice;
use proptest::prelude::*;

use crate::world::{BLOCK, Memory, ROOM, TestSlot, World, fill, hasty, root, says, uki, written};
use hostile_server::{Answer, Server};

#[tokio::test]
async fn only_what_is_on_no_slot_is_fetched() {
    let old: Vec<u32> = (1..=300).collect();
    let mut new = old.clone();
    new[17] = 1017;
    new.splice(100..100, [2001, 2002, 2003]);
    let (old, new) = (root(&old), root(&new));
    let (world, manifest) = World::with_root(&new);
    let server = Server::good(world.path());
    let repository = world.ready(&[&server.address]).await;
    let (booted, target) = (TestSlot::with(&old), TestSlot::empty());
    let fetched = fill(&repository, &manifest, &target, &[&booted])
        .await
        .unwrap();
    assert!(target.holds(&new));
    assert!(booted.holds(&old), "the booted slot is never written");
    assert_eq!(fetched.bytes, 4 * BLOCK as u64 + manifest.root_index.length);
    assert_eq!(fetched.reused, 299 * BLOCK as u64);
    let block = BLOCK as u64;
    let mut ranges = server.ranges("root");
    ranges.sort_unstable();
    assert_eq!(
        ranges,
        [(17 * block, 18 * block - 1), (100 * block, 103 * block - 1)]
    );
    // And again: everything is there, nothing but the proof is left to do.
    let again = fill(&repository, &manifest, &target, &[&booted])
        .await
        .unwrap();
    assert_eq!((again.bytes, again.requests), (0, 0));
    assert_eq!(written(&target.data), new.len() as u64);
}

#[tokio::test]
async fn a_release_with_the_same_root_fetches_nothing_for_it() {
    let same = root(&(1..=200).collect::<Vec<_>>());
    let mut world = World::new();
    let manifest = world.add("2", &same, &uki(&[(".linux", b"another kernel")]));
    world.publish();
    let server = Server::good(world.path());
    let repository = world.ready(&[&server.address]).await;
    let (booted, target) = (TestSlot::with(&same), TestSlot::empty());
    let fetched = fill(&repository, &manifest, &target, &[&booted])
        .await
        .unwrap();
    assert!(target.holds(&same));
    assert_eq!((fetched.bytes, fetched.requests), (0, 0));
}

#[tokio::test]
async fn a_release_of_which_nothing_is_here_costs_its_blocks_and_the_index() {
    let new = root(&(1..=600).collect::<Vec<_>>());
    let (world, manifest) = World::with_root(&new);
    let server = Server::good(world.path());
    for address in [server.address.as_str(), world.path().to_str().unwrap()] {
        let repository = world.ready(&[address]).await;
        let (booted, target) = (
            TestSlot::with(&root(&[5000, 5001])),
            TestSlot::with(&root(&[6000; 40])),
        );
        let fetched = fill(&repository, &manifest, &target, &[&booted])
            .await
            .unwrap();
        assert!(target.holds(&new));
        assert_eq!(fetched.bytes, new.len() as u64 + manifest.root_index.length);
    }
}

#[tokio::test]
async fn a_damaged_seed_costs_bytes_and_nothing_else() {
    let old = root(&(1..=100).collect::<Vec<_>>());
    let new = root(&(2..=101).collect::<Vec<_>>());
    let (world, manifest) = World::with_root(&new);
    let server = Server::good(world.path());
    let repository = world.ready(&[&server.address]).await;
    let (booted, target) = (TestSlot::with(&old), TestSlot::empty());
    // Its tree still says what these blocks were.
    booted
        .data
        .write_at(&[1; 3 * BLOCK], 50 * BLOCK as u64)
        .unwrap();
    let fetched = fill(&repository, &manifest, &target, &[&booted])
        .await
        .unwrap();
    assert!(target.holds(&new));
    assert_eq!(fetched.bytes, 4 * BLOCK as u64 + manifest.root_index.length);
}

#[tokio::test]
async fn a_seed_with_another_salt_is_hashed_and_used() {
    let old = root(&(1..=100).collect::<Vec<_>>());
    let new = root(&(2..=101).collect::<Vec<_>>());
    let (world, manifest) = World::with_root(&new);
    let server = Server::good(world.path());
    let repository = world.ready(&[&server.address]).await;
    let (booted, target) = (TestSlot::with(&old), TestSlot::empty());
    let mut superblock = crate::world::parameters(old.len());
    superblock.salt = b"another".to_vec();
    booted.tree.write_at(&superblock.superblock(), 0).unwrap();
    let fetched = fill(&repository, &manifest, &target, &[&booted])
        .await
        .unwrap();
    assert!(target.holds(&new));
    assert_eq!(fetched.bytes, BLOCK as u64 + manifest.root_index.length);
}

#[tokio::test]
async fn connections_are_kept_for_the_next_request() {
    let old: Vec<u32> = (1..=400).collect();
    let new: Vec<u32> = old.iter().map(|block| block + block % 2 * 1000).collect();
    let (old, new) = (root(&old), root(&new));
    let (world, manifest) = World::with_root(&new);
    let server = Server::good(world.path());
    let repository = world.ready(&[&server.address]).await;
    let (booted, target) = (TestSlot::with(&old), TestSlot::empty());
    let fetched = fill(&repository, &manifest, &target, &[&booted])
        .await
        .unwrap();
    assert!(target.holds(&new));
    assert_eq!(fetched.requests, 201);
    assert!(server.connections() <= 8, "{}", server.connections());
}

#[tokio::test]
async fn several_mirrors_share_the_work() {
    let new = root(&(1..=600).collect::<Vec<_>>());
    let (mut world, manifest) = World::with_root(&new);
    let (first, second) = (Server::good(world.path()), Server::good(world.path()));
    world.mirrors = vec![second.address.clone()];
    world.publish();
    let repository = world.ready(&[&first.address]).await;
    let target = TestSlot::empty();
    let fetched = fill(&repository, &manifest, &target, &[]).await.unwrap();
    assert!(target.holds(&new));
    assert!(!first.ranges("root").is_empty() && !second.ranges("root").is_empty());
    let given: Vec<u64> = fetched.mirrors.iter().map(|mirror| mirror.bytes).collect();
    assert_eq!(given.len(), 2);
    assert_eq!(given.iter().sum::<u64>(), fetched.bytes);
}

#[tokio::test]
async fn a_server_without_ranges_is_read_once_and_no_further_than_needed() {
    let old: Vec<u32> = (1..=600).collect();
    let mut new = old.clone();
    new[100] = 1000;
    new[101] = 1001;
    new[300] = 1002;
    let (old, new) = (root(&old), root(&new));
    let (world, manifest) = World::with_root(&new);
    let server = Server::start(world.path(), |_| Answer::Whole);
    let mut settings = hasty(&[&server.address]);
    settings.connections = 1;
    let repository = world.open_with(settings).await.unwrap();
    let (booted, target) = (TestSlot::with(&old), TestSlot::empty());
    fill(&repository, &manifest, &target, &[&booted])
        .await
        .unwrap();
    assert!(target.holds(&new));
    let requests = server.requests();
    let asked = requests
        .iter()
        .filter(|request| request.path.ends_with("/root"));
    assert_eq!(asked.count(), 1);
    // With several connections too, if not with one request.
    let repository = world.ready(&[&server.address]).await;
    let target = TestSlot::empty();
    fill(&repository, &manifest, &target, &[&booted])
        .await
        .unwrap();
    assert!(target.holds(&new));
}

#[tokio::test]
async fn a_slot_that_is_too_small_is_told_before_anything_is_fetched() {
    let new = root(&vec![1; ROOM + 1]);
    let (world, manifest) = World::with_root(&new);
    let server = Server::good(world.path());
    let repository = world.ready(&[&server.address]).await;
    let before = server.requests().len();
    let error = fill(&repository, &manifest, &TestSlot::empty(), &[])
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "the release needs {} bytes of root, and there are {}",
            (ROOM + 1) * BLOCK,
            ROOM * BLOCK
        )
    );
    assert_eq!(server.requests().len(), before);
}

/// Blocks that differ are few, so that old and new images have many in common.
fn images() -> impl Strategy<Value = (Vec<u32>, Vec<u32>, Vec<u32>)> {
    let image = || proptest::collection::vec(0_u32..150, 2..150);
    (image(), image(), image())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn from_whatever_was_there_the_slot_becomes_the_new_root(
        (old, new, before) in images(),
        has_tree in any::<bool>(),
        cuts in proptest::collection::vec(0_u64..60, 0..4),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let (old_root, new_root, before_root) = (root(&old), root(&new), root(&before));
            let (world, manifest) = World::with_root(&new_root);
            let repository = world.ready(&[world.path().to_str().unwrap()]).await;
            let booted = TestSlot::with(&old_root);
            let target = TestSlot::with(&before_root);
            if !has_tree {
                target.tree.write_at(b"WHERRYFL", 0).unwrap();
            }
            // Kinds of blocks that are on neither slot. (A slot with a mark is
            // looked at as far as the new root reaches, zeros after the old one
            // included.)
            let looked_at = if has_tree { before.len() } else { before.len().min(new.len()) };
            let beyond = !has_tree && new.len() > before.len();
            let mut missing: Vec<u32> = new.iter().copied()
                .filter(|block| !old.contains(block) && !before[..looked_at].contains(block))
                .filter(|block| !(beyond && *block == 0))
                .collect();
            missing.sort_unstable();
            missing.dedup();
            // The power is cut after so many writes, again and again.
            let whole = cuts.is_empty();
            for cut in cuts {
                target.data.fail_after(Some(cut));
                if let Err(error) = fill(&repository, &manifest, &target, &[&booted]).await {
                    prop_assert!(says(&error).contains(Memory::MESSAGE), "{}", says(&error));
                }
                target.data.fail_after(None);
            }
            let before_last = repository.received();
            let last = fill(&repository, &manifest, &target, &[&booted]).await.unwrap();
            prop_assert!(target.holds(&new_root));
            prop_assert!(booted.holds(&old_root));
            prop_assert_eq!(repository.received() - before_last, last.bytes);
            if whole {
                let index = manifest.root_index.length;
                prop_assert!(
                    last.bytes <= (missing.len() * BLOCK) as u64 + index,
                    "{} bytes for {} missing blocks", last.bytes, missing.len()
                );
            }
            Ok(())
        })?;
    }
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_fetched() {
    let old = root(&(1..=10).collect::<Vec<_>>());
    let new = root(&(100..=600).collect::<Vec<_>>());
    let (world, manifest) = World::with_root(&new);
    let server = Server::good(world.path());
    let (booted, target) = (TestSlot::with(&old), TestSlot::with(&old));
    let mut fetched = 0;
    let mut interrupted = 0;
    loop {
        let repository = world.ready(&[&server.address]).await;
        target.data.fail_after(Some(3));
        let before = written(&target.data);
        match fill(&repository, &manifest, &target, &[&booted]).await {
            Ok(last) => {
                fetched += last.bytes;
                break;
            }
            Err(error) => {
                assert!(says(&error).contains(Memory::MESSAGE), "{error}");
                interrupted += 1;
                fetched += written(&target.data) - before;
            }
        }
    }
    assert!(target.holds(&new));
    assert!(interrupted > 3, "{interrupted}");
    // Each block was written once, so none was fetched into the slot twice.
    assert_eq!(written(&target.data), new.len() as u64);
    assert_eq!(fetched, new.len() as u64 + manifest.root_index.length);
}
