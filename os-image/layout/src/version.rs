//! The version of a release.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The longest version, in bytes: it is part of file names on the ESP and of a
/// partition's name (36 UTF-16 units, `wherry_` included).
const MAX: usize = 29;

/// A version, ordered as the UAPI group's version format specification (UAPI.10)
/// says, which is the order in which systemd-boot prefers boot entries: numbers
/// count as numbers, and what follows a `~` comes before what has no such end.
///
/// It begins with a digit and has letters, digits, `.`, `~` and `-`; `_` and `+`
/// separate the parts of a boot entry's name.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version(String);

/// A text that is no version.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "'{}' is no version: a digit, then at most {} letters, digits, '.', '~', '-'",
    .0.escape_default(),
    MAX - 1
)]
pub struct VersionError(String);

impl Version {
    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Version {
    type Error = VersionError;

    fn try_from(text: String) -> Result<Self, VersionError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b".~-".contains(&byte);
        let begins = text
            .bytes()
            .next()
            .is_some_and(|byte| byte.is_ascii_digit());
        if begins && text.len() <= MAX && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(VersionError(text.chars().take(80).collect()))
        }
    }
}

impl FromStr for Version {
    type Err = VersionError;

    fn from_str(text: &str) -> Result<Self, VersionError> {
        Self::try_from(text.to_owned())
    }
}

impl From<Version> for String {
    fn from(version: Version) -> Self {
        version.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl PartialEq for Version {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Version {}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self.0.as_bytes(), other.0.as_bytes())
    }
}

impl std::hash::Hash for Version {
    /// Versions that differ only in leading zeros are equal, so all hash alike
    /// that have the same numbers and letters.
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes().filter(|byte| *byte != b'0') {
            byte.hash(state);
        }
    }
}

/// UAPI.10's algorithm, for the characters that a version may have.
fn compare(mut a: &[u8], mut b: &[u8]) -> Ordering {
    loop {
        // A `~` comes even before the end, and the end before anything else.
        if let Some(order) = separator(b'~', &mut a, &mut b) {
            return order;
        }
        if a.is_empty() || b.is_empty() {
            return a.len().cmp(&b.len());
        }
        for mark in [b'-', b'.'] {
            if let Some(order) = separator(mark, &mut a, &mut b) {
                return order;
            }
        }
        let digit = |text: &[u8]| text.first().is_some_and(u8::is_ascii_digit);
        let order = if digit(a) || digit(b) {
            let (number_a, number_b) = (
                take(&mut a, u8::is_ascii_digit),
                take(&mut b, u8::is_ascii_digit),
            );
            // A missing number is less than any, zero included.
            (!number_a.is_empty())
                .cmp(&!number_b.is_empty())
                .then_with(|| {
                    let (a, b) = (significant(number_a), significant(number_b));
                    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
                })
        } else {
            take(&mut a, u8::is_ascii_alphabetic).cmp(take(&mut b, u8::is_ascii_alphabetic))
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// What begins with `mark` is less than what does not; where both do, it is
/// passed over.
fn separator(mark: u8, a: &mut &[u8], b: &mut &[u8]) -> Option<Ordering> {
    match (a.strip_prefix(&[mark]), b.strip_prefix(&[mark])) {
        (Some(rest_a), Some(rest_b)) => {
            (*a, *b) = (rest_a, rest_b);
            None
        }
        (Some(_), None) => Some(Ordering::Less),
        (None, Some(_)) => Some(Ordering::Greater),
        (None, None) => None,
    }
}

/// Takes the bytes that belong together off the text's begin.
fn take<'a>(text: &mut &'a [u8], belongs: fn(&u8) -> bool) -> &'a [u8] {
    let end = text.iter().position(|byte| !belongs(byte));
    let (word, rest) = text.split_at(end.unwrap_or(text.len()));
    *text = rest;
    word
}

fn significant(digits: &[u8]) -> &[u8] {
    let zeros = digits.iter().take_while(|digit| **digit == b'0').count();
    &digits[zeros..]
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any version.
    pub fn version() -> impl Strategy<Value = Version> {
        "[0-9][0-9A-Za-z.~-]{0,28}".prop_map(|text| text.parse().unwrap())
    }

    #[test]
    fn versions_are_ordered_as_the_boot_loader_orders_them() {
        let ascending = [
            "0.9", "1~rc1", "1~rc1.1", "1~rc2", "1", "1-2", "1.0", "1.0.1", "1.1~dev", "1.1",
            "1.9", "1.10", "1.10a", "1.10b", "2", "10",
        ];
        for (a, first) in ascending.iter().enumerate() {
            for (b, second) in ascending.iter().enumerate() {
                let order = Version::from_str(first)
                    .unwrap()
                    .cmp(&Version::from_str(second).unwrap());
                assert_eq!(order, a.cmp(&b), "{first} and {second}");
            }
        }
        assert_eq!(
            Version::from_str("1.01").unwrap(),
            Version::from_str("1.1").unwrap()
        );
    }

    #[test]
    fn what_could_break_a_file_name_is_no_version() {
        for text in [
            "",
            "v1",
            "1/2",
            "1_2",
            "1+3",
            "1 ",
            "..",
            "1\n",
            &"1".repeat(30),
        ] {
            assert!(Version::from_str(text).is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_version_is_read_as_it_is_written(version in version()) {
            prop_assert_eq!(version.to_string().parse(), Ok(version));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text: String) {
            let _ = text.parse::<Version>();
        }
    }
}
