//! A machine's connection to the servers.

use crate::random::Random;
use crate::scenario::{DAY, HOUR, Moment, SECOND, Scenario};

/// How long a client waits for an answer.
pub const PATIENCE: Moment = 30 * SECOND;

/// The link of one machine.
#[derive(Clone, Debug)]
pub struct Link {
    /// Times without network, ascending: from, until.
    offline: Vec<(Moment, Moment)>,
    /// Bytes per second.
    rate: u64,
    loss_permille: u64,
}

impl Link {
    /// A random link as the scenario describes them.
    pub fn new(scenario: &Scenario, random: &mut Random) -> Self {
        let mut offline = Vec::new();
        if random.permille(scenario.offline_permille) {
            let mut free = 0;
            for day in 0..=scenario.length / DAY {
                let from = day * DAY + random.below(DAY);
                let until = from + random.within(2 * HOUR, 12 * HOUR);
                if random.permille(500) && from > free {
                    offline.push((from, until));
                    free = until;
                }
            }
        }
        let rate = if random.permille(scenario.slow_permille) {
            random.within(2 << 10, 16 << 10)
        } else {
            random.within(256 << 10, 8 << 20)
        };
        Self {
            offline,
            rate,
            loss_permille: scenario.loss_permille,
        }
    }

    /// Whether the servers can be reached.
    pub fn is_up(&self, now: Moment) -> bool {
        !self
            .offline
            .iter()
            .any(|(from, until)| *from <= now && now < *until)
    }

    /// When this many bytes have arrived, including waits without network.
    pub fn fetched(&self, now: Moment, bytes: u64) -> Moment {
        let mut time = now;
        let mut left = bytes * 1000 / self.rate;
        for (from, until) in &self.offline {
            if *until <= time {
                continue;
            }
            let before = from.saturating_sub(time);
            if left <= before {
                break;
            }
            left -= before.min(left);
            time = *until;
        }
        time + left
    }

    /// How long a message takes; `None`: it is lost.
    pub fn message(&self, now: Moment, random: &mut Random) -> Option<Moment> {
        let lost = random.permille(self.loss_permille);
        let time = random.within(10, 200);
        (self.is_up(now) && !lost).then_some(time)
    }
}
