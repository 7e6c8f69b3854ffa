//! Lengths of time.

use std::fmt;
use std::str::FromStr;

/// A length of time as `humantime` has it: `"250ms"`, `"10s"`, `"1h 30m"`, `"2days"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Duration(pub std::time::Duration);

crate::text!(Duration: Display);

impl Duration {
    /// So many seconds.
    pub const fn from_secs(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }
}

impl FromStr for Duration {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Self).map_err(|_| {
            format!("'{text}' is not a duration, expected one as 250ms, 10s, 5m or 1h 30m")
        })
    }
}

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        humantime::format_duration(self.0).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_duration_needs_its_unit() {
        for (text, milliseconds) in [
            ("250ms", 250),
            ("10s", 10_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("2days", 172_800_000),
            ("0s", 0),
        ] {
            let duration: Duration = text.parse().unwrap();
            assert_eq!(duration.0.as_millis(), milliseconds, "{text}");
        }
        for text in ["", "10", "soon", "-1s", "99999999999999999999s"] {
            assert!(text.parse::<Duration>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_can_be_read_again(seconds in 0..u64::MAX / 1000, nanoseconds in 0..1_000_000_000_u32) {
            let duration = Duration(std::time::Duration::new(seconds, nanoseconds));
            prop_assert_eq!(duration.to_string().parse::<Duration>(), Ok(duration));
        }
    }
}
