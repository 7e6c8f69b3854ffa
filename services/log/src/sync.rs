//! When to make what is stored survive a power cut
//!
//! Pure. Flash wears by writes and a sync costs tens of milliseconds there,
//! so syncs are gathered: at most [`GATHER`] after a line was stored, and at
//! once for a line that says something failed ([`URGENT`] or more severe),
//! because the power may be what failed. A flood of such lines is synced each
//! [`PAUSE`].

use std::time::{Duration, Instant};

use journal::Level;

const GATHER: Duration = Duration::from_secs(5);
const URGENT: Level = Level::Error;
const PAUSE: Duration = Duration::from_millis(500);

/// What is not synced yet.
#[derive(Debug, Default)]
pub struct Schedule {
    due: Option<Instant>,
    last: Option<Instant>,
}

impl Schedule {
    /// A line of this level was stored.
    pub fn stored(&mut self, level: Level, now: Instant) {
        let due = match (level <= URGENT, self.last) {
            (true, Some(last)) => now.max(last + PAUSE),
            (true, None) => now,
            (false, _) => now + GATHER,
        };
        self.due = Some(self.due.map_or(due, |earlier| earlier.min(due)));
    }

    /// When to sync; `None` when there is nothing to.
    pub fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Synced, or tried to.
    pub fn synced(&mut self, now: Instant) {
        self.due = None;
        self.last = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_gathered_and_errors_are_not() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        assert_eq!(schedule.due(), None);
        schedule.stored(Level::Info, start);
        schedule.stored(Level::Debug, start + Duration::from_secs(2));
        assert_eq!(schedule.due(), Some(start + GATHER));
        let failure = start + Duration::from_secs(3);
        schedule.stored(Level::Error, failure);
        assert_eq!(schedule.due(), Some(failure));
        schedule.synced(failure);
        assert_eq!(schedule.due(), None);
    }

    #[test]
    fn a_flood_of_errors_is_synced_at_intervals() {
        let start = Instant::now();
        let mut schedule = Schedule::default();
        schedule.synced(start);
        schedule.stored(Level::Critical, start + Duration::from_millis(1));
        assert_eq!(schedule.due(), Some(start + PAUSE));
        schedule.stored(Level::Info, start + Duration::from_millis(2));
        assert_eq!(schedule.due(), Some(start + PAUSE));
    }
}
