//! Fetching a unified kernel image in order, with older ones as seeds.

use block_device::ReadAt;
use fetch::{FetchError, Fetched, Repository};
use release::Manifest;

use crate::world::{World, root, says, uki};
use hostile_server::{Answer, Server};

fn kernel(from: u32) -> Vec<u8> {
    root(&(from..from + 60).collect::<Vec<_>>())
}

async fn get(
    repository: &Repository,
    manifest: &Manifest,
    seeds: &[&dyn ReadAt],
) -> Result<(Vec<u8>, Fetched), FetchError> {
    let mut image = Vec::new();
    let mut sink = |bytes: &[u8]| {
        image.extend_from_slice(bytes);
        Ok(())
    };
    let fetched = repository.uki(manifest, seeds, &mut sink, &|_| {}).await?;
    Ok((image, fetched))
}

#[tokio::test]
async fn a_section_that_only_moved_is_not_fetched() {
    let kernel = kernel(1);
    let old = uki(&[
        (".cmdline", b"old"),
        (".linux", &kernel),
        (".osrel", b"old"),
    ]);
    // The longer command line moves the kernel by 512 bytes.
    let line = vec![b'x'; 700];
    let new = uki(&[(".cmdline", &line), (".linux", &kernel), (".osrel", b"new")]);
    let mut world = World::new();
    let manifest = world.add("2", &root(&[1, 2]), &new);
    world.publish();
    let server = Server::good(world.path());
    let repository = world.ready(&[&server.address]).await;
    let (image, fetched) = get(&repository, &manifest, &[&old]).await.unwrap();
    assert_eq!(image, new);
    assert_eq!(fetched.reused, kernel.len() as u64);
    assert_eq!(
        fetched.bytes,
        new.len() as u64 - kernel.len() as u64 + manifest.uki_index.length
    );
    // Something that is no image is no seed.
    let (image, fetched) = get(&repository, &manifest, &[&vec![1; 9999], &Vec::new()])
        .await
        .unwrap();
    assert_eq!(image, new);
    assert_eq!(fetched.bytes, new.len() as u64 + manifest.uki_index.length);
}

#[tokio::test]
async fn what_a_sink_got_is_right_even_if_a_mirror_lies_in_the_middle() {
    let new = uki(&[(".linux", &kernel(1)), (".osrel", b"new")]);
    let mut world = World::new();
    let manifest = world.add("2", &root(&[1, 2]), &new);
    let liar = Server::start(world.path(), |request| {
        match request.path.ends_with(".efi") {
            true => Answer::Flipped(100_000),
            false => Answer::Good,
        }
    });
    let whole = Server::start(world.path(), |_| Answer::Whole);
    world.mirrors = vec![whole.address.clone()];
    world.publish();
    let repository = world.ready(&[&liar.address]).await;
    let (image, fetched) = get(&repository, &manifest, &[]).await.unwrap();
    assert_eq!(image, new);
    let dropped = fetched.mirrors[0].dropped.as_deref().unwrap();
    assert!(
        dropped.contains("uki.efi: byte 99328 and what follows is wrong"),
        "{dropped}"
    );
}

#[tokio::test]
async fn a_sink_that_is_full_ends_it() {
    let new = uki(&[(".linux", &kernel(1))]);
    let mut world = World::new();
    let manifest = world.add("2", &root(&[1, 2]), &new);
    world.publish();
    let server = Server::good(world.path());
    let repository = world.ready(&[&server.address]).await;
    let mut sink = |_: &[u8]| Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
    let error = repository
        .uki(&manifest, &[], &mut sink, &|_| {})
        .await
        .unwrap_err();
    assert!(
        says(&error).starts_with("writing the unified kernel image: "),
        "{}",
        says(&error)
    );
}
