//! The root hash of a release.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hexadecimal;

/// The root hash of a dm-verity tree: it stands for every byte of a root. As text
/// and in JSON it is 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RootHash(pub [u8; 32]);

/// A text that is not a root hash.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 sum has 64 lower-case hexadecimal digits")]
pub struct RootHashError;

impl RootHash {
    /// The PARTUUID of the partition with the data (Discoverable Partitions
    /// Specification), its 16 bytes in the order of its text.
    pub fn data_id(&self) -> [u8; 16] {
        self.halves()[0]
    }

    /// The PARTUUID of the partition with the hash tree.
    pub fn tree_id(&self) -> [u8; 16] {
        self.halves()[1]
    }

    /// The root hash that names two partitions: the data's id, then the hash
    /// tree's.
    pub fn of_ids(data: [u8; 16], tree: [u8; 16]) -> Self {
        let mut hash = [0; 32];
        hash[..16].copy_from_slice(&data);
        hash[16..].copy_from_slice(&tree);
        Self(hash)
    }

    fn halves(&self) -> [[u8; 16]; 2] {
        let (halves, _) = self.0.as_chunks::<16>();
        [halves[0], halves[1]]
    }
}

impl fmt::Display for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&hexadecimal::encode(&self.0))
    }
}

impl fmt::Debug for RootHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RootHash {
    type Err = RootHashError;

    fn from_str(text: &str) -> Result<Self, RootHashError> {
        hexadecimal::decode(text)
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(RootHashError)
    }
}

impl TryFrom<String> for RootHash {
    type Error = RootHashError;

    fn try_from(text: String) -> Result<Self, RootHashError> {
        text.parse()
    }
}

impl From<RootHash> for String {
    fn from(hash: RootHash) -> Self {
        hash.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_root_hash_is_read_as_it_is_written() {
        let text = "00ff".repeat(16);
        let hash: RootHash = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        assert_eq!(serde_json::to_string(&hash).unwrap(), format!("\"{text}\""));
        for wrong in [
            "",
            "00",
            &"0g".repeat(32),
            &"FF".repeat(32),
            &"ä".repeat(32),
        ] {
            assert!(wrong.parse::<RootHash>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_two_ends_of_a_root_hash_name_its_partitions() {
        let mut hash = RootHash([0; 32]);
        hash.0[0] = 1;
        hash.0[31] = 2;
        assert_eq!((hash.data_id()[0], hash.tree_id()[15]), (1, 2));
    }

    proptest! {
        #[test]
        fn any_root_hash_survives_its_text_and_its_two_ids(bytes: [u8; 32]) {
            let hash = RootHash(bytes);
            prop_assert_eq!(hash.to_string().parse(), Ok(hash));
            prop_assert_eq!(RootHash::of_ids(hash.data_id(), hash.tree_id()), hash);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = text.parse::<RootHash>();
        }
    }
}
