//! A service's name.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest name: it becomes a cgroup's and a directory's name, and a
/// column of a table.
const LONGEST: usize = 64;

/// Under these names the log has the kernel's lines and PID 1's: a service with
/// one of them could pass for either, and would have their share of the journal.
const TAKEN: [&str; 2] = ["kernel", "init"];

/// A name of 1 to 64 characters of `a-z`, `0-9` and `-`, the first a letter;
/// not `kernel` or `init`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

/// A text is not a service's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidName(String);

impl ServiceName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_valid(text: &str) -> bool {
    text.len() <= LONGEST
        && !TAKEN.contains(&text)
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}

impl TryFrom<String> for ServiceName {
    type Error = InvalidName;

    fn try_from(text: String) -> Result<Self, InvalidName> {
        if is_valid(&text) {
            Ok(Self(text))
        } else {
            Err(InvalidName(text))
        }
    }
}

impl FromStr for ServiceName {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        text.to_owned().try_into()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> String {
        name.0
    }
}

impl AsRef<str> for ServiceName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.pad(&self.0)
    }
}

impl fmt::Display for InvalidName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{:?} is not a service's name: 1 to {LONGEST} of a-z, 0-9 and -, first a letter, \
             and neither {} nor {}",
            self.0, TAKEN[0], TAKEN[1]
        )
    }
}

impl std::error::Error for InvalidName {}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hostile: An operator's service is called `kernel` or `init`, to have lines of the log pass for theirs. Outcome: The name is refused, and the message says why.
    #[test]
    fn no_service_has_the_kernels_name_or_pid_1s() {
        for taken in TAKEN {
            let error = taken.parse::<ServiceName>().unwrap_err();
            assert!(error.to_string().contains("neither kernel nor init"));
        }
        assert!("kernel-exporter".parse::<ServiceName>().is_ok());
    }
}
