//! Releases as small as they can be.

use release::{
    BLOCK, BlockHasher, RootHash, Sha256Sum, VerityParameters, Version, tree as hash_tree,
};
use sha2::{Digest, Sha256};
use slots::Target;

/// Bytes of a root.
pub const DATA: u64 = 4 * BLOCK;

/// A release with all that is installed of it.
#[derive(Clone)]
pub struct Release {
    pub version: Version,
    pub data: Vec<u8>,
    pub tree: Vec<u8>,
    pub parameters: VerityParameters,
    pub root_hash: RootHash,
    pub uki: Vec<u8>,
    pub loader: Vec<u8>,
    pub loader_version: Version,
}

impl Release {
    /// Release number `n`, version `n.0`.
    pub fn new(n: u8, loader: &str) -> Self {
        let data: Vec<u8> = (0..DATA)
            .map(|at| (at as u8).wrapping_mul(n) ^ (at >> 8) as u8)
            .collect();
        let parameters = VerityParameters {
            salt: vec![0x5a; 32],
            uuid: [n; 16],
            data_blocks: DATA / BLOCK,
        };
        let hasher = BlockHasher::new(&parameters);
        let leaves = data.chunks(BLOCK as usize).map(|block| hasher.hash(block));
        let (tree, root_hash) = hash_tree(&parameters, leaves).unwrap();
        let line = format!("root=/dev/dm-0 ro panic=-1 roothash={root_hash}");
        let kernel = vec![n; 1500];
        Self {
            version: format!("{n}.0").parse().unwrap(),
            uki: pe(&[
                (".osrel", format!("VERSION_ID={n}.0\n").as_bytes()),
                (".cmdline", line.as_bytes()),
                (".linux", &kernel),
            ]),
            loader: pe(&[
                (".text", &[0xcc; 700]),
                (
                    ".sdmagic",
                    format!("#### LoaderInfo: systemd-boot {loader} ####").as_bytes(),
                ),
            ]),
            loader_version: loader.replace('+', ".").parse().unwrap(),
            data,
            tree,
            parameters,
            root_hash,
        }
    }

    pub fn target(&self) -> Target {
        Target {
            version: self.version.clone(),
            root_hash: self.root_hash,
            data_length: self.data.len() as u64,
            tree_length: self.tree.len() as u64,
            uki: self.uki_sum(),
            uki_length: self.uki.len() as u64,
            loader_version: self.loader_version.clone(),
        }
    }

    pub fn uki_sum(&self) -> Sha256Sum {
        Sha256Sum(Sha256::digest(&self.uki).into())
    }
}

/// A PE file of these sections (PE format specification of Microsoft).
pub fn pe(sections: &[(&str, &[u8])]) -> Vec<u8> {
    const ALIGNMENT: usize = 512;
    const OPTIONAL: usize = 112;
    let mut file = vec![0; 64];
    file[..2].copy_from_slice(b"MZ");
    file[60] = 64;
    file.extend(b"PE\0\0");
    file.extend(0x8664u16.to_le_bytes());
    file.extend((sections.len() as u16).to_le_bytes());
    file.extend([0; 12]);
    file.extend((OPTIONAL as u16).to_le_bytes());
    file.extend(0x0022u16.to_le_bytes());
    let mut optional = [0; OPTIONAL];
    optional[..2].copy_from_slice(&0x020bu16.to_le_bytes());
    file.extend(optional);
    let mut place = (file.len() + 40 * sections.len()).next_multiple_of(ALIGNMENT);
    for (name, content) in sections {
        let mut header = [0; 40];
        header[..name.len()].copy_from_slice(name.as_bytes());
        let padded = content.len().next_multiple_of(ALIGNMENT);
        for (at, value) in [(8, content.len()), (12, place), (16, padded), (20, place)] {
            header[at..at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        file.extend(header);
        place += padded;
    }
    for (_, content) in sections {
        file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
        file.extend(*content);
    }
    file.resize(file.len().next_multiple_of(ALIGNMENT), 0);
    file
}
