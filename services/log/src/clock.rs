//! What time it is, on both clocks

use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

/// One moment.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    /// Wall clock; wrong until someone sets it.
    pub realtime: SystemTime,
    /// Since the kernel started, time asleep included.
    pub monotonic: Duration,
}

impl Stamp {
    /// Now.
    pub fn now() -> Stamp {
        Stamp {
            realtime: SystemTime::now(),
            // The clock is there since Linux 2.6.39.
            monotonic: clock_gettime(ClockId::CLOCK_BOOTTIME)
                .map(Duration::from)
                .unwrap_or_default(),
        }
    }

    /// The moment when the kernel had run for `monotonic`.
    pub fn at(self, monotonic: Duration) -> Stamp {
        let ago = self.monotonic.saturating_sub(monotonic);
        Stamp {
            realtime: self.realtime.checked_sub(ago).unwrap_or(self.realtime),
            monotonic,
        }
    }
}
