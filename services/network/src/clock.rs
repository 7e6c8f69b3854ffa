//! The clock that leases are counted by.

use nix::time::{ClockId, clock_gettime};

use crate::learned::Moment;

/// Seconds since the kernel started, suspended time included.
pub fn now() -> Moment {
    // Every kernel that boots this system has the clock.
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .ok()
        .and_then(|time| Moment::try_from(time.tv_sec()).ok())
        .unwrap_or(0)
}
