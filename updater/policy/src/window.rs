//! Maintenance windows: when a machine may reboot by itself.
//!
//! A window begins by the wall clock of the configured time zone. Where the
//! clock is put forward or back within it, it ends by the wall clock or after its
//! length, whichever comes first: it is never longer than it says, and never ends
//! later than its hours say. One that begins at an hour that the night of the
//! change does not have begins as much later as the clock jumps.

use std::time::Duration;

use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// A weekly time span.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The days on which it begins.
    pub days: Vec<Weekday>,
    /// When, by the wall clock.
    pub start: Time,
    /// How long it is, at most a week.
    pub length: Duration,
}

/// All windows of a machine; none at all: it may reboot at any time.
#[derive(Clone, Debug, PartialEq)]
pub struct Windows {
    /// Whose wall clock.
    pub zone: TimeZone,
    /// They may overlap.
    pub windows: Vec<Window>,
}

/// One occurrence of a window: from `start` on, before `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Opening {
    /// When it begins.
    pub start: Timestamp,
    /// When it is over.
    pub end: Timestamp,
}

/// The longest that a window may be, in days.
const LONGEST: i64 = 7;

impl Windows {
    /// Any time.
    pub fn any() -> Self {
        Self {
            zone: TimeZone::UTC,
            windows: Vec::new(),
        }
    }

    /// Whether the machine may reboot at any time.
    pub fn is_any(&self) -> bool {
        self.windows.is_empty()
    }

    /// The openings of the next eight days that are not over yet, the current one
    /// first. Each window opens at least once in that time.
    pub fn openings(&self, now: Timestamp) -> Vec<Opening> {
        let today = self.zone.to_datetime(now).date();
        let first = today.saturating_add(SignedDuration::from_hours(-24 * (LONGEST + 1)));
        let days = std::iter::successors(Some(first), |day| day.tomorrow().ok());
        let count = usize::try_from(2 * (LONGEST + 1) + 1).unwrap_or(0);
        let mut openings: Vec<_> = days
            .take(count)
            .flat_map(|day| {
                self.windows
                    .iter()
                    .filter(move |window| window.days.contains(&day.weekday()))
                    .filter_map(move |window| self.opening(window, day))
            })
            .filter(|opening| now < opening.end)
            .collect();
        openings.sort_unstable();
        openings.dedup();
        openings
    }

    /// Whether a window is open, and which.
    pub fn open(&self, now: Timestamp) -> Option<Opening> {
        self.openings(now)
            .into_iter()
            .find(|opening| opening.start <= now)
    }

    fn opening(&self, window: &Window, day: jiff::civil::Date) -> Option<Opening> {
        let length = SignedDuration::try_from(window.length).ok()?;
        let moment = |civil| self.zone.to_ambiguous_timestamp(civil).compatible().ok();
        let begins = day.to_datetime(window.start);
        let start = moment(begins)?;
        let by_length = start.checked_add(length).ok()?;
        let by_clock = moment(begins.checked_add(length).ok()?)?;
        // All of its hours may be missing in the night of a change.
        let end = if by_clock > start {
            by_length.min(by_clock)
        } else {
            by_length
        };
        Some(Opening { start, end })
    }
}

#[cfg(test)]
mod tests;
