//! Made-up releases, keys and a client.

use std::fs;
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use release::{BLOCK, BlockHasher, Channel, VerityParameters, tree};
use tempfile::TempDir;
use tough::{IntoVec, RepositoryLoader, TargetName};
use url::Url;
use wherry_release::progress::Silent;
use wherry_release::verify::{Report, verify};
use wherry_release::{Init, KeyFolder, Publish, Published, ReleaseFolder, Repository, Result};

/// A PE file with these sections.
fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let mut file = vec![0; 64];
    file[..2].copy_from_slice(b"MZ");
    file[60..64].copy_from_slice(&64u32.to_le_bytes());
    file.extend(b"PE\0\0");
    file.extend(0x8664u16.to_le_bytes());
    file.extend((sections.len() as u16).to_le_bytes());
    file.extend([0; 12]);
    file.extend(112u16.to_le_bytes());
    file.extend([0; 2]);
    file.extend(0x20bu16.to_le_bytes());
    file.extend([0; 110]);
    let mut at = 1024;
    for (name, content) in sections {
        let mut field = [0; 8];
        field[..name.len()].copy_from_slice(name.as_bytes());
        file.extend(field);
        let padded = content.len().next_multiple_of(512);
        for number in [content.len(), 0, padded, at] {
            file.extend((number as u32).to_le_bytes());
        }
        file.extend([0; 16]);
        at += padded;
    }
    file.resize(1024, 0);
    for (_, content) in sections {
        file.extend(*content);
        file.resize(file.len().next_multiple_of(512), 0);
    }
    file
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn uuid(id: [u8; 16]) -> String {
    let id = hex(&id);
    let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
    parts.join("-")
}

/// Leaves a release in `folder` as a build does; `seed` makes its content.
pub fn build(folder: &Path, version: &str, seed: u8) -> PathBuf {
    fs::create_dir_all(folder).unwrap();
    let blocks = 300;
    let root: Vec<u8> = (0..blocks * BLOCK)
        .map(|at| (at / BLOCK) as u8 ^ (at % 251) as u8 ^ seed)
        .collect();
    let verity = VerityParameters {
        salt: vec![7; 32],
        uuid: [seed; 16],
        data_blocks: blocks,
    };
    let hasher = BlockHasher::new(&verity);
    let leaves = root.chunks(BLOCK as usize).map(|block| hasher.hash(block));
    let (tree, hash) = tree(&verity, leaves).unwrap();
    let command_line = format!(
        "dm-mod.create=\"root,,,ro,0 {} verity 1 PARTUUID={} PARTUUID={} 4096 4096 {blocks} 1 \
         sha256 {hash} {} 1 panic_on_corruption\" quiet roothash={hash}",
        blocks * 8,
        uuid(hash.data_id()),
        uuid(hash.tree_id()),
        hex(&verity.salt)
    );
    let os_release = format!("NAME=Wherry\nIMAGE_VERSION={version}\n");
    let uki = pe(&[
        (".osrel", os_release.as_bytes()),
        (".cmdline", command_line.as_bytes()),
        (".linux", &[seed; 20_000]),
    ]);
    let loader = pe(&[(
        ".sdmagic",
        b"#### LoaderInfo: systemd-boot 257.9-1~deb13u1+b2 ####\0",
    )]);
    let mut disk = vec![seed; 4096];
    disk[512..520].copy_from_slice(b"EFI PART");
    for (end, content) in [
        ("root", root),
        ("verity", tree),
        ("efi", uki),
        ("loader.efi", loader),
        ("spdx.json", b"{}".to_vec()),
        ("raw", disk),
    ] {
        fs::write(folder.join(format!("wherry_{version}.{end}")), content).unwrap();
    }
    // A disk image has holes.
    let raw = fs::File::options()
        .write(true)
        .open(folder.join(format!("wherry_{version}.raw")))
        .unwrap();
    raw.set_len(1 << 20).unwrap();
    folder.to_owned()
}

/// A repository with its keys and builds.
pub struct World {
    pub folder: TempDir,
    pub now: Timestamp,
}

impl World {
    pub fn new() -> Self {
        let world = Self {
            folder: tempfile::tempdir().unwrap(),
            // Whole seconds, as it is signed.
            now: Timestamp::from_second(Timestamp::now().as_second()).unwrap(),
        };
        let keys = KeyFolder::make(&world.keys(), 3).unwrap();
        Repository::init_at(&world.repository(), keys, &Init::default(), world.now).unwrap();
        world
    }

    pub fn keys(&self) -> PathBuf {
        self.folder.path().join("keys")
    }

    pub fn repository(&self) -> PathBuf {
        self.folder.path().join("repository")
    }

    pub fn first_root(&self) -> PathBuf {
        self.repository().join("metadata/1.root.json")
    }

    pub fn open(&self) -> Repository {
        let keys = KeyFolder::open(&self.keys()).unwrap();
        Repository::open_at(&self.repository(), keys, self.now).unwrap()
    }

    pub fn later(&mut self, time: SignedDuration) {
        self.now += time;
    }

    pub fn built(&self, version: &str, seed: u8) -> ReleaseFolder {
        let folder = build(
            &self.folder.path().join(format!("build-{version}-{seed}")),
            version,
            seed,
        );
        ReleaseFolder::open(&folder, None, &Silent).unwrap()
    }

    pub fn publish(&self, version: &str, publish: &Publish) -> Result<Published> {
        let seed = version.bytes().fold(0, u8::wrapping_add);
        let release = self.built(version, seed);
        self.open().publish(&release, publish, &Silent)
    }

    /// What a machine that trusts `root` gets.
    pub fn read(&self, root: &Path) -> std::result::Result<Vec<Channel>, String> {
        self.read_at(&self.repository(), root)
    }

    /// The same from another tree.
    pub fn read_at(&self, tree: &Path, root: &Path) -> std::result::Result<Vec<Channel>, String> {
        let base = |name| Url::from_directory_path(tree.join(name)).expect("a path");
        let root = fs::read(root).unwrap();
        let load = async {
            let repository =
                RepositoryLoader::new(&root, base("metadata"), base("targets/channels"))
                    .load()
                    .await
                    .map_err(|error| error.to_string())?;
            let mut names: Vec<TargetName> = repository
                .all_targets()
                .map(|(name, _)| name.clone())
                .collect();
            names.sort();
            let mut channels = Vec::new();
            for name in names {
                let stream = repository.read_target(&name).await.unwrap();
                let file = stream.expect("the target").into_vec().await;
                let file = file.map_err(|error| error.to_string())?;
                channels.push(Channel::parse(&file).map_err(|error| error.to_string())?);
            }
            Ok(channels)
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(load)
    }

    /// What `wherry-release verify` finds.
    pub fn verify(&self) -> Report {
        let trust = self.keys().join("root.json");
        verify(&self.repository(), &trust, self.now, &Silent).unwrap()
    }

    /// The versions a machine finds on a channel.
    pub fn versions(&self, channel: &str) -> Vec<String> {
        self.read(&self.first_root())
            .unwrap()
            .iter()
            .filter(|found| found.name == channel)
            .flat_map(|found| &found.offers)
            .map(|offer| offer.manifest.version.to_string())
            .collect()
    }
}

pub fn on(channel: &str) -> Publish {
    Publish {
        channel: channel.to_owned(),
        ..Publish::default()
    }
}

/// Every file below a folder with its content, but for the lock.
pub fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with(".lock") {
                files.push((path.clone(), fs::read(path).unwrap()));
            }
        }
    }
    files.sort();
    files
}
