//! Which entries a reader wants.

use std::fmt;
use std::str::FromStr;
use std::time::SystemTime;

use log_line::Level;

use crate::entry::{BootId, Entry};

/// What to read. The default is everything; each field narrows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query {
    /// Only these services; empty means all.
    pub services: Vec<String>,
    /// Only this boot.
    pub boot: Option<BootSelector>,
    /// Only entries stored at this wall-clock time or later.
    pub since: Option<SystemTime>,
    /// Only entries stored before this wall-clock time or at it.
    pub until: Option<SystemTime>,
    /// Only entries this severe or more severe.
    pub level: Option<Level>,
    /// Only entries with a greater sequence number: where an earlier read
    /// ended.
    pub after: Option<u64>,
    /// Only the last N matching entries. While following: N old ones, then
    /// every new one.
    pub tail: Option<usize>,
}

/// How a person names a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootSelector {
    /// Back from the newest in the journal: 0 is the newest, 1 the one before
    /// it; written `0`, `-1`, `-2`, …
    Back(u64),
    /// [`Boot::index`](crate::Boot::index); written `1`, `2`, …
    Index(u64),
    /// By the kernel's name for it; written as 32 hexadecimal digits.
    Id(BootId),
}

/// A word that does not name a boot.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidBootSelector(pub String);

impl fmt::Display for InvalidBootSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:?} names no boot; use 0 for this one, -1 for the one before, \
             a boot's number, or a boot id",
            self.0
        )
    }
}

impl std::error::Error for InvalidBootSelector {}

impl FromStr for BootSelector {
    type Err = InvalidBootSelector;

    fn from_str(word: &str) -> Result<BootSelector, InvalidBootSelector> {
        let invalid = || InvalidBootSelector(word.to_owned());
        if let Ok(id) = word.parse() {
            return Ok(BootSelector::Id(id));
        }
        match word.strip_prefix('-') {
            Some(back) => back.parse().map(BootSelector::Back).map_err(|_| invalid()),
            None => match word.parse().map_err(|_| invalid())? {
                0 => Ok(BootSelector::Back(0)),
                index => Ok(BootSelector::Index(index)),
            },
        }
    }
}

impl Query {
    /// Whether this service's entries are wanted.
    pub(crate) fn wants_service(&self, name: &str) -> bool {
        self.services.is_empty() || self.services.iter().any(|wanted| wanted == name)
    }

    /// Whether an entry of a wanted boot is wanted, `tail` aside.
    pub(crate) fn wants(&self, entry: &Entry) -> bool {
        self.wants_service(&entry.service)
            && self.level.is_none_or(|level| entry.level <= level)
            && self.since.is_none_or(|since| entry.realtime >= since)
            && self.until.is_none_or(|until| entry.realtime <= until)
            && self.after.is_none_or(|after| entry.sequence > after)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_is_named_by_distance_number_or_id() {
        assert_eq!("0".parse(), Ok(BootSelector::Back(0)));
        assert_eq!("-2".parse(), Ok(BootSelector::Back(2)));
        assert_eq!("7".parse(), Ok(BootSelector::Index(7)));
        let id = "0f1e2d3c4b5a69788796a5b4c3d2e1f0";
        assert_eq!(id.parse(), Ok(BootSelector::Id(id.parse().unwrap())));
        for wrong in ["", "-", "--1", "yesterday", "1.5"] {
            assert!(wrong.parse::<BootSelector>().is_err(), "{wrong}");
        }
    }
}
