//! Who inhibits a shutdown, and what becomes of one meanwhile. Pure: time is an
//! argument.
//!
//! An inhibitor lives as long as the connection that asked for it. While one
//! *blocks*, a shutdown is refused; while one *delays*, it waits for its release,
//! [`LIMIT`] at most. Meant as systemd-logind's inhibitors are.

use std::collections::BTreeMap;
use std::time::Duration;

use control::{InhibitMode, Inhibitor};
use supervisor::Shutdown;

/// How long a shutdown waits for those who delay it: logind's
/// `InhibitDelayMaxSec=`.
pub const LIMIT: Duration = Duration::from_secs(5);

/// The longest text of an inhibitor in bytes: it becomes a line.
const LONGEST: usize = 256;

/// All inhibitors, and the shutdown that waits for them.
#[derive(Debug, Default)]
pub struct Inhibitors {
    /// By the number of the connection.
    held: BTreeMap<u32, Inhibitor>,
    waiting: Option<Waiting>,
}

/// A shutdown that is delayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Waiting {
    shutdown: Shutdown,
    /// When it happens at the latest.
    pub until: Duration,
}

/// What becomes of a shutdown.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It happens now.
    Now,
    /// It waits; these connections are to be told.
    Waits(Waiting, Vec<u32>),
    /// It is refused because of these.
    Blocked(Vec<Inhibitor>),
}

impl Inhibitors {
    /// An inhibitor for as long as the connection of that number is open.
    ///
    /// # Errors
    /// A sentence about what is wrong with it.
    pub fn hold(&mut self, connection: u32, inhibitor: Inhibitor) -> Result<(), String> {
        if self.waiting.is_some() {
            return Err("a shutdown is waiting already".to_owned());
        }
        for text in [&inhibitor.who, &inhibitor.why] {
            if text.is_empty() || text.len() > LONGEST {
                return Err(format!("who and why have 1 to {LONGEST} bytes"));
            }
        }
        self.held.insert(connection, inhibitor);
        Ok(())
    }

    /// A connection has ended.
    pub fn release(&mut self, connection: u32) {
        self.held.remove(&connection);
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Inhibitor> {
        self.held.values()
    }

    /// A client asks for a shutdown.
    pub fn ask(&mut self, shutdown: Shutdown, now: Duration) -> Verdict {
        let blocking: Vec<Inhibitor> = self
            .all()
            .filter(|inhibitor| inhibitor.mode == InhibitMode::Block)
            .cloned()
            .collect();
        if blocking.is_empty() {
            self.begin(shutdown, now)
        } else {
            Verdict::Blocked(blocking)
        }
    }

    /// A shutdown that nobody can block: the power key was pressed, or a signal
    /// came. Whoever is behind it cuts the power next.
    pub fn begin(&mut self, shutdown: Shutdown, now: Duration) -> Verdict {
        if self.held.is_empty() {
            self.waiting = None;
            return Verdict::Now;
        }
        // A second one changes how the machine ends, not when.
        let until = self.waiting.map_or(now + LIMIT, |waiting| waiting.until);
        let waiting = Waiting { shutdown, until };
        self.waiting = Some(waiting);
        Verdict::Waits(waiting, self.held.keys().copied().collect())
    }

    /// Forgets the shutdown that waits: one that is forced takes its place.
    pub fn cancel(&mut self) {
        self.waiting = None;
    }

    /// The shutdown that has waited long enough, once.
    pub fn due(&mut self, now: Duration) -> Option<Shutdown> {
        let waiting = self.waiting?;
        if !self.held.is_empty() && now < waiting.until {
            return None;
        }
        self.waiting = None;
        Some(waiting.shutdown)
    }

    /// When [`Self::due`] has to be asked at the latest.
    pub fn deadline(&self) -> Option<Duration> {
        self.waiting.map(|waiting| waiting.until)
    }

    /// Whether a shutdown waits.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_secs(100);

    fn inhibitor(mode: InhibitMode) -> Inhibitor {
        Inhibitor {
            who: "backup".to_owned(),
            why: "writes to the disk".to_owned(),
            mode,
        }
    }

    fn held(mode: InhibitMode) -> Inhibitors {
        let mut inhibitors = Inhibitors::default();
        inhibitors.hold(7, inhibitor(mode)).unwrap();
        inhibitors
    }

    #[test]
    fn one_that_blocks_refuses_a_shutdown_until_its_connection_ends() {
        let mut inhibitors = held(InhibitMode::Block);
        let blocked = Verdict::Blocked(vec![inhibitor(InhibitMode::Block)]);
        assert_eq!(inhibitors.ask(Shutdown::Reboot, NOW), blocked);
        assert_eq!(inhibitors.due(NOW + LIMIT), None);
        inhibitors.release(7);
        assert_eq!(inhibitors.ask(Shutdown::Reboot, NOW), Verdict::Now);
    }

    #[test]
    fn one_that_delays_is_waited_for_until_its_release_or_the_limit() {
        for released in [true, false] {
            let mut inhibitors = held(InhibitMode::Delay);
            let Verdict::Waits(waiting, told) = inhibitors.ask(Shutdown::Poweroff, NOW) else {
                panic!("it does not wait");
            };
            assert_eq!((waiting.until, told), (NOW + LIMIT, vec![7]));
            assert_eq!(inhibitors.deadline(), Some(NOW + LIMIT));
            let soon = NOW + LIMIT / 2;
            assert_eq!(inhibitors.due(soon), None);
            let then = if released {
                inhibitors.release(7);
                soon
            } else {
                NOW + LIMIT
            };
            assert_eq!(inhibitors.due(then), Some(Shutdown::Poweroff));
            assert_eq!(inhibitors.due(then), None, "once");
        }
    }

    #[test]
    fn a_second_shutdown_does_not_wait_longer_than_the_first() {
        let mut inhibitors = held(InhibitMode::Delay);
        inhibitors.ask(Shutdown::Poweroff, NOW);
        inhibitors.ask(Shutdown::Reboot, NOW + LIMIT / 2);
        assert_eq!(inhibitors.due(NOW + LIMIT), Some(Shutdown::Reboot));
    }

    #[test]
    fn the_power_key_waits_for_one_that_blocks_and_is_not_refused() {
        let mut inhibitors = held(InhibitMode::Block);
        assert!(matches!(
            inhibitors.begin(Shutdown::Poweroff, NOW),
            Verdict::Waits(..)
        ));
        assert_eq!(inhibitors.due(NOW + LIMIT), Some(Shutdown::Poweroff));
    }

    #[test]
    fn nobody_inhibits_without_a_name_or_once_a_shutdown_waits() {
        let mut inhibitors = held(InhibitMode::Delay);
        let nameless = Inhibitor {
            who: String::new(),
            ..inhibitor(InhibitMode::Delay)
        };
        assert!(inhibitors.hold(8, nameless).is_err());
        inhibitors.ask(Shutdown::Reboot, NOW);
        assert!(inhibitors.hold(8, inhibitor(InhibitMode::Block)).is_err());
    }
}
