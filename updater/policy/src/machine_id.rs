//! The machine's id, and what is derived from it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

/// The content of `/etc/machine-id`. It is secret: servers get only what is
/// derived from it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MachineId([u8; 16]);

/// A text that is not a machine id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MachineIdError;

impl fmt::Display for MachineIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a machine id has 32 lower-case hexadecimal digits, not all of them zero")
    }
}

impl std::error::Error for MachineIdError {}

impl FromStr for MachineId {
    type Err = MachineIdError;

    fn from_str(text: &str) -> Result<Self, MachineIdError> {
        let text = text.trim_end_matches('\n');
        let digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
        if text.len() != 32 || !text.bytes().all(digit) {
            return Err(MachineIdError);
        }
        match u128::from_str_radix(text, 16) {
            Ok(0) | Err(_) => Err(MachineIdError),
            Ok(id) => Ok(Self(id.to_be_bytes())),
        }
    }
}

impl From<u128> for MachineId {
    fn from(id: u128) -> Self {
        Self(id.to_be_bytes())
    }
}

impl fmt::Display for MachineId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for MachineId {
    /// Without the id, which does not belong into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MachineId")
    }
}

impl MachineId {
    /// An id for one purpose, from which neither the machine's id nor that for
    /// another purpose can be worked out: HMAC-SHA256 with the machine's id as
    /// key, cut to 128 bits and marked as a random UUID, as
    /// `sd_id128_get_machine_app_specific` does it.
    pub fn derived(&self, purpose: [u8; 16]) -> String {
        // HMAC takes a key of any length.
        let mut id = match Hmac::<Sha256>::new_from_slice(&self.0) {
            Ok(hmac) => hmac.chain_update(purpose).finalize().into_bytes(),
            Err(_) => Sha256::digest(purpose),
        };
        id[6] = id[6] & 0x0f | 0x40;
        id[8] = id[8] & 0x3f | 0x80;
        id[..16].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The part of `whole` that is this machine's own for a purpose.
    pub(crate) fn part_of(&self, whole: Duration, words: &[&str]) -> Duration {
        let part = (whole.as_millis() * u128::from(self.number(words))) >> 64;
        Duration::from_millis(u64::try_from(part).unwrap_or(u64::MAX))
    }

    /// A number that is the same each time for the machine and these words, and
    /// as good as random otherwise.
    pub fn number(&self, words: &[&str]) -> u64 {
        let mut hash = Sha256::new().chain_update(self.to_string());
        for word in words {
            hash.update(word);
        }
        let sum = hash.finalize();
        sum.iter()
            .take(8)
            .fold(0, |number, byte| number << 8 | u64::from(*byte))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_32_digits() {
        let text = "0123456789abcdef0123456789abcdef";
        let id: MachineId = format!("{text}\n").parse().unwrap();
        assert_eq!(id.to_string(), text);
        for wrong in [
            "",
            "0",
            &"0".repeat(32),
            &"A".repeat(32),
            &"+".repeat(32),
            &"1".repeat(33),
        ] {
            assert!(wrong.parse::<MachineId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_derived_id_is_what_other_implementations_derive() {
        // openssl dgst -sha256 -mac HMAC -macopt hexkey:KEY of the purpose's bytes.
        let id: MachineId = "0123456789abcdef0123456789abcdef".parse().unwrap();
        assert_eq!(id.derived(*b"0123456789abcdef"), DERIVED);
        assert_ne!(id.derived(*b"0123456789abcdeg"), DERIVED);
    }

    const DERIVED: &str = "0385a4e71b4c492fbc9009930b3e775c";
}
