//! How long signed metadata is valid.

use std::fmt;
use std::str::FromStr;

use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};

/// A duration, such as `7d`, `90d`, `1y`.
#[derive(Clone, Copy, Debug)]
pub struct Lifetime(Span);

impl Lifetime {
    /// This many days.
    pub fn days(days: i32) -> Self {
        Self(Span::new().days(days))
    }

    /// The moment this long after `start`; the latest possible one if it
    /// overflows.
    pub fn after(self, start: Timestamp) -> Timestamp {
        start
            .to_zoned(TimeZone::UTC)
            .checked_add(self.0)
            .map_or(Timestamp::MAX, |moment| moment.timestamp())
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse()
            .map(Self)
            .map_err(|error| format!("not a duration (90d, 6h, 1y): {error}"))
    }
}

impl fmt::Display for Lifetime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", self.0)
    }
}

/// How long the roles' metadata is valid.
#[derive(Clone, Copy, Debug)]
pub struct Expiry {
    /// The root: a year. It needs the offline keys to be renewed.
    pub root: Lifetime,
    /// The list of channels: 90 days.
    pub targets: Lifetime,
    /// 90 days.
    pub snapshot: Lifetime,
    /// The timestamp: seven days. It is how a machine notices that updates are
    /// being withheld, and `wherry-release timestamp` renews it.
    pub timestamp: Lifetime,
}

impl Default for Expiry {
    fn default() -> Self {
        Self {
            root: Lifetime::days(365),
            targets: Lifetime::days(90),
            snapshot: Lifetime::days(90),
            timestamp: Lifetime::days(7),
        }
    }
}
