//! When a machine checks for updates.
//!
//! Not all at once: a small server can serve a thousand machines in an hour, but
//! not in the same second.

use std::time::Duration;

use jiff::Timestamp;

use crate::reboot::later;
use crate::{Config, MachineId};

/// The longest time over which the machines of a wave are spread.
const WAVE: Duration = Duration::from_secs(15 * 60);

/// How long after the last check for news the next one is due: the interval,
/// shorter or longer by up to a tenth. `count` is the number of checks so far.
pub fn check_delay(config: &Config, machine: &MachineId, count: u64) -> Duration {
    let interval = config.check_interval;
    interval * 9 / 10 + machine.part_of(interval / 5, &["check", &count.to_string()])
}

/// When a machine comes whose wave begins at `start`, if no check is due before.
pub fn check_at(config: &Config, machine: &MachineId, start: Timestamp) -> Timestamp {
    let spread = config.check_interval.min(WAVE);
    later(
        start,
        machine.part_of(spread, &["wave", &start.to_string()]),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_for_news_come_at_the_interval_give_or_take_a_tenth() {
        let config = Config::default();
        let mut delays = Vec::new();
        for count in 0..200 {
            let delay = check_delay(&config, &MachineId::from(5), count);
            assert!(delay >= Duration::from_secs(3240) && delay <= Duration::from_secs(3960));
            delays.push(delay);
        }
        delays.sort_unstable();
        delays.dedup();
        assert!(delays.len() > 190);
    }

    #[test]
    fn the_machines_of_a_wave_come_one_after_another() {
        let start: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        let mut seconds = [0u32; 900];
        for id in 1..=9000u128 {
            let at = check_at(&Config::default(), &MachineId::from(id), start);
            let after = at.duration_since(start).as_secs();
            seconds[usize::try_from(after).unwrap()] += 1;
        }
        // Ten are expected in each.
        assert!(seconds.iter().all(|count| *count < 35), "{seconds:?}");
    }
}
