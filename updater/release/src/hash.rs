//! SHA-256 sums, in JSON as lower-case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

/// The SHA-256 of a whole file.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Sha256Sum(pub [u8; 32]);

/// A text that is not a sum.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a SHA-256 sum has 64 lower-case hexadecimal digits")]
pub struct SumError;

impl fmt::Display for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&HEXLOWER.encode(&self.0))
    }
}

impl fmt::Debug for Sha256Sum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Sha256Sum {
    type Err = SumError;

    fn from_str(text: &str) -> Result<Self, SumError> {
        HEXLOWER
            .decode(text.as_bytes())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(SumError)
    }
}

impl TryFrom<String> for Sha256Sum {
    type Error = SumError;

    fn try_from(text: String) -> Result<Self, SumError> {
        text.parse()
    }
}

impl From<Sha256Sum> for String {
    fn from(sum: Sha256Sum) -> Self {
        sum.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_is_read_as_it_is_written() {
        let text = "00ff".repeat(16);
        let sum: Sha256Sum = text.parse().unwrap();
        assert_eq!(sum.to_string(), text);
        assert_eq!(serde_json::to_string(&sum).unwrap(), format!("\"{text}\""));
        for wrong in ["", "00", &"0g".repeat(32), &"FF".repeat(32)] {
            assert!(wrong.parse::<Sha256Sum>().is_err(), "{wrong}");
        }
    }
}
