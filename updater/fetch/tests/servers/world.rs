//! A repository with releases, and slots to put them into.

use std::fs;
use std::path::Path;
use std::time::Duration;

use block_device::{Failing, Recorder, Write};
use fetch::{FetchError, Fetched, Patience, Repository, Retry, Settings, Slot};
use release::{
    Artifact, BlockHasher, BlockIndex, Channel, Manifest, Offer, RootHash, Sha256Sum, UkiIndex,
    VerityParameters, tree,
};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use crate::tuf::Signer;

pub const BLOCK: usize = 4096;
pub const SALT: &[u8] = b"one salt for all releases";

/// A repository in a folder.
pub struct World {
    pub signer: Signer,
    pub trust: Vec<u8>,
    pub offers: Vec<Offer>,
    pub mirrors: Vec<String>,
    pub folder: TempDir,
    pub datastore: TempDir,
    /// The spare folder for metadata.
    pub spare: Option<std::path::PathBuf>,
}

impl World {
    pub fn new() -> Self {
        let signer = Signer::new();
        let folder = TempDir::new().unwrap();
        let trust = signer.write_root(folder.path(), &[]);
        Self {
            signer,
            trust,
            offers: Vec::new(),
            mirrors: Vec::new(),
            folder,
            datastore: TempDir::new().unwrap(),
            spare: None,
        }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a release with this root and this unified kernel image.
    pub fn add(&mut self, version: &str, root: &[u8], uki: &[u8]) -> Manifest {
        let folder = format!("releases/{version}");
        fs::create_dir_all(self.path().join(&folder)).unwrap();
        let artifact = |name: &str, content: &[u8]| {
            let path = format!("{folder}/{name}");
            fs::write(self.path().join(&path), content).unwrap();
            Artifact {
                path,
                length: content.len() as u64,
                sha256: Sha256Sum(Sha256::digest(content).into()),
            }
        };
        let verity = parameters(root.len());
        let (hash_tree, root_hash) = hash_tree(root);
        let index = BlockIndex::of_tree(&verity, &hash_tree).unwrap();
        let manifest = Manifest {
            version: version.parse().unwrap(),
            root_hash,
            root: artifact("root", root),
            root_index: artifact("root.index", &index.encode()),
            tree: artifact("verity", &hash_tree),
            uki: artifact("uki.efi", uki),
            uki_index: artifact("uki.index", &UkiIndex::of(uki).unwrap().encode()),
            loader: artifact("loader.efi", b"a boot loader"),
            loader_version: "257".parse().unwrap(),
            min_version: None,
            sbom: artifact("sbom.json", b"{}"),
            disk: artifact("disk.raw", b"a disk"),
            notes: String::new(),
            published: "2026-01-01T00:00:00Z".to_owned(),
            verity,
        };
        self.offers.push(Offer {
            manifest: manifest.clone(),
            waves: Vec::new(),
            halted: None,
        });
        manifest
    }

    /// Signs what there is.
    pub fn publish(&self) {
        let mut channel = Channel::new("stable");
        channel.offers = self.offers.clone();
        channel.mirrors = self.mirrors.clone();
        let file = channel.encode().unwrap();
        self.signer.write(self.path(), &[("stable.json", file)]);
    }

    /// A published release "2" with this root, in a repository that has no other.
    pub fn with_root(root: &[u8]) -> (Self, Manifest) {
        let mut world = Self::new();
        let manifest = world.add("2", root, &uki(&[(".linux", b"kernel")]));
        world.publish();
        (world, manifest)
    }

    pub async fn open(&self, addresses: &[&str]) -> Result<Repository, FetchError> {
        self.open_with(hasty(addresses)).await
    }

    pub async fn open_with(&self, settings: Settings) -> Result<Repository, FetchError> {
        Repository::open(
            settings,
            &self.trust,
            self.datastore.path(),
            self.spare.as_deref(),
        )
        .await
    }

    /// Opens the repository and reads the channel, as any update begins.
    pub async fn ready(&self, addresses: &[&str]) -> Repository {
        let repository = self.open(addresses).await.unwrap();
        repository.channel("stable").await.unwrap();
        repository
    }
}

/// Settings that do not wait long.
pub fn hasty(addresses: &[&str]) -> Settings {
    let mut settings = Settings::new(addresses.iter().map(|text| (*text).to_owned()).collect());
    settings.patience = Patience {
        connect: Duration::from_secs(2),
        idle: Duration::from_millis(1500),
        window: Duration::from_secs(2),
        least_rate: 1000,
    };
    settings.retry = Retry {
        attempts: 3,
        first: Duration::from_millis(5),
        longest: Duration::from_millis(20),
    };
    settings
}

pub fn parameters(length: usize) -> VerityParameters {
    VerityParameters {
        salt: SALT.to_vec(),
        uuid: [7; 16],
        data_blocks: (length / BLOCK) as u64,
    }
}

pub fn hash_tree(root: &[u8]) -> (Vec<u8>, RootHash) {
    let verity = parameters(root.len());
    let hasher = BlockHasher::new(&verity);
    tree(&verity, root.chunks(BLOCK).map(|block| hasher.hash(block))).unwrap()
}

/// A root whose blocks are made from these numbers: equal numbers, equal blocks.
pub fn root(blocks: &[u32]) -> Vec<u8> {
    blocks.iter().flat_map(|number| block(*number)).collect()
}

pub fn block(number: u32) -> Vec<u8> {
    if number == 0 {
        return vec![0; BLOCK];
    }
    let seed = Sha256::digest(number.to_le_bytes());
    seed.iter().copied().cycle().take(BLOCK).collect()
}

/// A unified kernel image: a PE file with these sections.
pub fn uki(sections: &[(&str, &[u8])]) -> Vec<u8> {
    let aligned = |length: usize| length.next_multiple_of(512);
    let mut file = vec![0; 0x40];
    file[..2].copy_from_slice(b"MZ");
    file[0x3c] = 0x40;
    file.extend(b"PE\0\0");
    file.extend(0x8664_u16.to_le_bytes());
    file.extend((sections.len() as u16).to_le_bytes());
    file.extend([0; 12]);
    file.extend(240_u16.to_le_bytes());
    file.extend(0x22_u16.to_le_bytes());
    let mut optional = [0; 240];
    optional[..2].copy_from_slice(&0x20b_u16.to_le_bytes());
    optional[32..36].copy_from_slice(&4096_u32.to_le_bytes());
    optional[36..40].copy_from_slice(&512_u32.to_le_bytes());
    optional[108..112].copy_from_slice(&16_u32.to_le_bytes());
    file.extend(optional);
    let mut offset = 1024;
    for (name, content) in sections {
        let mut header = [0; 40];
        header[..name.len()].copy_from_slice(name.as_bytes());
        header[8..12].copy_from_slice(&(content.len() as u32).to_le_bytes());
        header[12..16].copy_from_slice(&(offset as u32).to_le_bytes());
        header[16..20].copy_from_slice(&(aligned(content.len()) as u32).to_le_bytes());
        header[20..24].copy_from_slice(&(offset as u32).to_le_bytes());
        file.extend(header);
        offset += aligned(content.len());
    }
    file.resize(1024, 0);
    for (_, content) in sections {
        file.extend(*content);
        file.resize(aligned(file.len()), 0);
    }
    file
}

/// A device in memory on which writing can come to an end.
pub type Memory = Failing<Recorder>;

/// How many bytes were written to a device.
pub fn written(device: &Memory) -> u64 {
    let writes = device.device().writes();
    let lengths = writes.iter().map(|write| match write {
        Write::Bytes { bytes, .. } => bytes.len() as u64,
        Write::Flush => 0,
    });
    lengths.sum()
}

/// A slot in memory.
pub struct TestSlot {
    pub data: Memory,
    pub tree: Memory,
}

/// Blocks that a slot has room for.
pub const ROOM: usize = 640;

impl TestSlot {
    pub fn empty() -> Self {
        Self::holding(&[], &[])
    }

    /// A slot with a root and its tree.
    pub fn with(root: &[u8]) -> Self {
        Self::holding(root, &hash_tree(root).0)
    }

    fn holding(data: &[u8], tree: &[u8]) -> Self {
        let memory = |content: &[u8], blocks: usize| {
            let mut all = vec![0; blocks * BLOCK];
            all[..content.len()].copy_from_slice(content);
            Failing::new(Recorder::new(all))
        };
        Self {
            data: memory(data, ROOM),
            tree: memory(tree, 16),
        }
    }

    pub fn slot(&self) -> Slot<'_> {
        Slot {
            data: &self.data,
            tree: &self.tree,
        }
    }

    pub fn root(&self, length: usize) -> Vec<u8> {
        self.data.device().now()[..length].to_vec()
    }

    /// Whether it holds this root with its tree, byte for byte.
    pub fn holds(&self, root: &[u8]) -> bool {
        let (tree, _) = hash_tree(root);
        self.root(root.len()) == root && self.tree.device().now()[..tree.len()] == tree
    }
}

pub async fn fill(
    repository: &Repository,
    manifest: &Manifest,
    target: &TestSlot,
    seeds: &[&TestSlot],
) -> Result<Fetched, FetchError> {
    let seeds: Vec<Slot<'_>> = seeds.iter().map(|seed| seed.slot()).collect();
    repository
        .fill_slot(manifest, target.slot(), &seeds, &|_| {})
        .await
}

/// What an error says, its cause included.
pub fn says(error: &FetchError) -> String {
    let cause = std::error::Error::source(error).map(ToString::to_string);
    format!(
        "{error}{}",
        cause.map_or(String::new(), |text| format!(": {text}"))
    )
}

/// Copies a repository as it is now.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), &target).unwrap();
        }
    }
}
