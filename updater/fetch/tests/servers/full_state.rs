//! A state partition that is full or read-only: a small tmpfs in a mount
//! namespace of the test's own thread.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::world::{World, copy, root, says};

const NONE: Option<&str> = None;

/// A tmpfs of a few blocks at `folder`, for this thread alone.
fn small_disk(folder: &Path) {
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FS).unwrap();
    let private = MsFlags::MS_PRIVATE | MsFlags::MS_REC;
    mount(NONE, "/", NONE, private, NONE).unwrap();
    let options = Some("size=256k");
    mount(
        Some("tmpfs"),
        folder,
        Some("tmpfs"),
        MsFlags::empty(),
        options,
    )
    .unwrap();
}

fn fill(folder: &Path) {
    let path = folder.join("filler");
    let mut filler = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap();
    while filler.write_all(&[1; 512]).is_ok() {}
}

fn read_only(folder: &Path, on: bool) {
    let flags = match on {
        true => MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY,
        false => MsFlags::MS_REMOUNT,
    };
    mount(NONE, folder, NONE, flags, NONE).unwrap();
}

/// The first version of the metadata was seen before the disk was full or
/// read-only, the second while it was; then the disk is as before.
async fn goes_on_while(begin: impl Fn(&Path), end: impl Fn(&Path)) {
    let (mut world, _) = World::with_root(&root(&[1, 2, 3]));
    let spare = TempDir::new().unwrap();
    world.spare = Some(spare.path().to_owned());
    let folder = world.datastore.path().to_owned();
    small_disk(&folder);
    let address = world.path().to_str().unwrap().to_owned();
    world.ready(&[&address]).await;
    let versions: Vec<TempDir> = [2, 3]
        .map(|version| {
            let old = TempDir::new().unwrap();
            copy(world.path(), old.path());
            world.signer.version = version;
            world.publish();
            old
        })
        .into();

    begin(&folder);
    let repository = world.ready(&[&address]).await;
    assert_eq!(repository.unwritable_datastore(), Some(&*folder));
    // What was seen before the disk was full, and since, still counts.
    for old in &versions {
        let replayed = world.open(&[old.path().to_str().unwrap()]).await;
        let text = says(&replayed.err().unwrap());
        assert!(text.contains("replayed"), "{text}");
    }

    end(&folder);
    let repository = world.ready(&[&address]).await;
    assert_eq!(repository.unwritable_datastore(), None);
    let left = fs::read_dir(spare.path()).unwrap();
    let left = left.map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name != "unproven").collect();
    assert!(
        left.is_empty(),
        "everything is in its place again: {left:?}"
    );
    world.spare = None;
    let text = says(
        &world
            .open(&[versions[1].path().to_str().unwrap()])
            .await
            .err()
            .unwrap(),
    );
    assert!(text.contains("replayed"), "{text}");
}

/// Hostile: A service fills the state partition to the last byte. Outcome: Updates go on: new metadata is kept in memory, and old metadata is still refused as a replay.
#[tokio::test]
async fn a_full_state_partition_does_not_stop_updates() {
    if !requirement::root() {
        return;
    }
    goes_on_while(fill, |folder| {
        fs::remove_file(folder.join("filler")).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_read_only_state_partition_does_not_stop_updates() {
    if !requirement::root() {
        return;
    }
    goes_on_while(
        |folder| read_only(folder, true),
        |folder| read_only(folder, false),
    )
    .await;
}

#[tokio::test]
async fn a_trust_anchor_that_was_replaced_counts_although_nothing_can_be_removed() {
    if !requirement::root() {
        return;
    }
    let (mut world, _) = World::with_root(&root(&[1, 2, 3]));
    let spare = TempDir::new().unwrap();
    world.spare = Some(spare.path().to_owned());
    let folder = world.datastore.path().to_owned();
    small_disk(&folder);
    world.signer.version = 9;
    world.publish();
    world.ready(&[world.path().to_str().unwrap()]).await;
    read_only(&folder, true);
    // Another repository, with other keys and lower versions.
    let (mut other, _) = World::with_root(&root(&[4, 5, 6]));
    std::mem::swap(&mut other.datastore, &mut world.datastore);
    other.spare.clone_from(&world.spare);
    for _ in 0..2 {
        other.ready(&[other.path().to_str().unwrap()]).await;
    }
}
