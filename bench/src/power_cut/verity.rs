//! A slot as the kernel's dm-verity reads it, by the kernel's own command line.

use sha2::{Digest, Sha256};

const BLOCK: usize = 4096;
const HASH: usize = 32;

/// What `dm-mod.create=` on a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verity {
    /// PARTUUID of the root.
    pub data: String,
    /// PARTUUID of the hash tree.
    pub tree: String,
    /// Blocks of data.
    pub blocks: usize,
    /// The block of the hash tree's partition with which the tree begins.
    pub start: usize,
    /// The root hash.
    pub root_hash: Vec<u8>,
    /// What is hashed before each block.
    pub salt: Vec<u8>,
}

impl Verity {
    /// Reads it from a kernel's command line.
    pub fn parse(command_line: &str) -> Result<Self, String> {
        let table = command_line
            .split_once("dm-mod.create=\"")
            .and_then(|(_, rest)| rest.split_once('"'))
            .map(|(table, _)| table)
            .ok_or("no dm-mod.create= on the command line")?;
        // NAME,UUID,MINOR,FLAGS,START LENGTH verity 1 DATA TREE 4096 4096 BLOCKS
        // START sha256 ROOT-HASH SALT …
        let words: Vec<&str> = table.split_whitespace().collect();
        let [
            _,
            _,
            "verity",
            "1",
            data,
            tree,
            "4096",
            "4096",
            blocks,
            start,
            "sha256",
            root_hash,
            salt,
            ..,
        ] = words.as_slice()
        else {
            return Err(format!("no table of dm-verity's: {table}"));
        };
        let id = |word: &str| word.strip_prefix("PARTUUID=").map(str::to_lowercase);
        let number = |word: &str| word.parse().map_err(|_| format!("{word} is no number"));
        Ok(Self {
            data: id(data).ok_or("no PARTUUID= of the root")?,
            tree: id(tree).ok_or("no PARTUUID= of the hash tree")?,
            blocks: number(blocks)?,
            start: number(start)?,
            root_hash: bytes(root_hash)?,
            salt: bytes(salt)?,
        })
    }

    /// Whether each block of `data` can be read through `tree`.
    pub fn check(&self, data: &[u8], tree: &[u8]) -> Result<(), String> {
        // How many blocks of hashes each level has, from the one over the data.
        let mut levels = vec![self.blocks.div_ceil(BLOCK / HASH)];
        while levels[levels.len() - 1] > 1 {
            levels.push(levels[levels.len() - 1].div_ceil(BLOCK / HASH));
        }
        // The top is the first in the partition.
        let mut at = self.start;
        let mut expected = self.root_hash.clone();
        for (level, count) in levels.iter().enumerate().rev() {
            let hashes = blocks(tree, at, *count).ok_or("the hash tree is too long")?;
            self.compare(hashes, &expected)
                .map_err(|block| format!("block {block} of level {level} of the hash tree"))?;
            expected = hashes.to_vec();
            at += count;
        }
        let data = blocks(data, 0, self.blocks).ok_or("the root is too long")?;
        self.compare(data, &expected)
            .map_err(|block| format!("block {block} of the root"))
    }

    /// Compares each block's hash; the error is the first one's number.
    fn compare(&self, data: &[u8], hashes: &[u8]) -> Result<(), usize> {
        for (number, (block, hash)) in data.chunks(BLOCK).zip(hashes.chunks(HASH)).enumerate() {
            let mut hasher = Sha256::new();
            hasher.update(&self.salt);
            hasher.update(block);
            if hasher.finalize().as_slice() != hash {
                return Err(number);
            }
        }
        Ok(())
    }
}

fn blocks(bytes: &[u8], first: usize, count: usize) -> Option<&[u8]> {
    let start = first.checked_mul(BLOCK)?;
    bytes.get(start..start.checked_add(count.checked_mul(BLOCK)?)?)
}

fn bytes(hex: &str) -> Result<Vec<u8>, String> {
    let digit = |byte: &u8| {
        char::from(*byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    hex.as_bytes()
        .chunks(2)
        .map(|pair| match pair {
            [high, low] => Some(digit(high)? << 4 | digit(low)?),
            _ => None,
        })
        .collect::<Option<_>>()
        .ok_or_else(|| format!("{hex} is not hexadecimal"))
}

#[cfg(test)]
mod tests {
    use super::{BLOCK, Verity};
    use sha2::{Digest, Sha256};

    fn hash(block: &[u8]) -> Vec<u8> {
        let mut hasher = Sha256::new();
        hasher.update([7; 4]);
        hasher.update(block);
        hasher.finalize().to_vec()
    }

    /// 130 blocks: two blocks of hashes and one above them.
    fn slot() -> (Verity, Vec<u8>, Vec<u8>) {
        let data: Vec<u8> = (0..130 * BLOCK).map(|at| (at / 999) as u8).collect();
        let mut level: Vec<u8> = data.chunks(BLOCK).flat_map(hash).collect();
        level.resize(2 * BLOCK, 0);
        let mut top: Vec<u8> = level.chunks(BLOCK).flat_map(hash).collect();
        top.resize(BLOCK, 0);
        let verity = Verity {
            data: String::new(),
            tree: String::new(),
            blocks: 130,
            start: 1,
            root_hash: hash(&top),
            salt: vec![7; 4],
        };
        (verity, data, [vec![0; BLOCK], top, level].concat())
    }

    #[test]
    fn a_changed_bit_anywhere_is_found() {
        let (verity, data, tree) = slot();
        verity.check(&data, &tree).unwrap();
        for at in [0, 64 * BLOCK + 5, 130 * BLOCK - 1] {
            let mut data = data.clone();
            data[at] ^= 1;
            assert!(verity.check(&data, &tree).is_err(), "{at}");
        }
        for at in [BLOCK, 2 * BLOCK - 1, 3 * BLOCK, 4 * BLOCK - 1] {
            let mut tree = tree.clone();
            tree[at] ^= 1;
            assert!(verity.check(&data, &tree).is_err(), "{at}");
        }
        assert!(verity.check(&data[..129 * BLOCK], &tree).is_err());
    }

    #[test]
    fn the_command_line_tells_everything() {
        let line = "dm-mod.create=\"root,,,ro,0 17872 verity 1 PARTUUID=B791 PARTUUID=254e \
                    4096 4096 2234 1 sha256 b791254e 56a2 1 panic_on_corruption\" ro";
        let verity = Verity::parse(line).unwrap();
        assert_eq!(verity.data, "b791");
        assert_eq!(verity.tree, "254e");
        assert_eq!(verity.blocks, 2234);
        assert_eq!(verity.root_hash, [0xb7, 0x91, 0x25, 0x4e]);
        assert_eq!(verity.salt, [0x56, 0xa2]);
        for bad in ["ro", &line.replace("2234", "x"), &line.replace("56a2", "5")] {
            assert!(Verity::parse(bad).is_err(), "{bad}");
        }
    }
}
