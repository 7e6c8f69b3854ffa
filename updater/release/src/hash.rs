//! SHA-256 sums, in JSON as lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::hexadecimal;

/// A text that is no sum.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SumError;

impl fmt::Display for SumError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a SHA-256 sum has 64 lower-case hexadecimal digits")
    }
}

impl std::error::Error for SumError {}

macro_rules! sum {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(pub [u8; 32]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&hexadecimal::encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = SumError;

            fn from_str(text: &str) -> Result<Self, SumError> {
                bytes(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = SumError;

            fn try_from(text: String) -> Result<Self, SumError> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(sum: $name) -> Self {
                sum.to_string()
            }
        }
    };
}

sum! {
    /// The SHA-256 of a whole file.
    Sha256Sum
}

sum! {
    /// The root hash of a dm-verity tree: it stands for every byte of a root.
    RootHash
}

impl RootHash {
    /// The PARTUUID of the partition with the data (Discoverable Partitions
    /// Specification), its 16 bytes in the order of its text.
    pub fn data_id(&self) -> [u8; 16] {
        self.half(0)
    }

    /// The PARTUUID of the partition with the hash tree.
    pub fn tree_id(&self) -> [u8; 16] {
        self.half(16)
    }

    fn half(&self, at: usize) -> [u8; 16] {
        let mut id = [0; 16];
        id.copy_from_slice(&self.0[at..at + 16]);
        id
    }
}

fn bytes(text: &str) -> Result<[u8; 32], SumError> {
    hexadecimal::decode(text)
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or(SumError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_read_as_it_is_written() {
        let text = "00ff".repeat(16);
        let sum: RootHash = text.parse().unwrap();
        assert_eq!(sum.to_string(), text);
        assert_eq!(serde_json::to_string(&sum).unwrap(), format!("\"{text}\""));
        for wrong in [
            "",
            "00",
            &"0g".repeat(32),
            &"FF".repeat(32),
            &"ä".repeat(32),
        ] {
            assert!(wrong.parse::<Sha256Sum>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn the_two_ends_of_a_root_hash_name_its_partitions() {
        let mut hash = RootHash([0; 32]);
        hash.0[0] = 1;
        hash.0[31] = 2;
        assert_eq!((hash.data_id()[0], hash.tree_id()[15]), (1, 2));
    }
}
