//! The hardware watchdog: it resets the machine when PID 1 no longer turns its
//! loop (the kernel's watchdog-api.rst).

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use nix::fcntl::OFlag;

use crate::kernel_log::log;
use crate::sys;

/// How long the machine may be without a sign of life, in seconds. A loop turn
/// takes milliseconds; the rest is for a hypervisor that lets the machine wait.
const TIMEOUT: i32 = 30;

/// An open watchdog.
#[derive(Debug)]
pub struct Watchdog {
    device: File,
    period: Duration,
    next: Duration,
    has_reset: bool,
}

impl Watchdog {
    /// Opens the first hardware watchdog, where there is one. From then on it
    /// must be fed.
    pub fn open() -> Option<Self> {
        let device = OpenOptions::new()
            .write(true)
            .custom_flags((OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
            .open("/dev/watchdog0")
            .ok()?;
        Some(Self::with(device))
    }

    /// Goes on with the watchdog that an earlier run of PID 1 had open.
    pub fn inherited(device: OwnedFd) -> Self {
        Self::with(File::from(device))
    }

    fn with(device: File) -> Self {
        let timeout = match sys::set_watchdog_timeout(&device, TIMEOUT) {
            Ok(taken) => taken,
            Err(error) => {
                log!(Warning, "the watchdog keeps its own timeout: {error}");
                TIMEOUT
            }
        };
        sys::remember_watchdog(device.as_raw_fd());
        // A driver that cannot tell says nothing.
        let has_reset = sys::has_watchdog_reset(&device).unwrap_or(false);
        Self {
            device,
            period: Duration::from_secs(u64::from(timeout.unsigned_abs())) / 3,
            next: Duration::ZERO,
            has_reset,
        }
    }

    /// Says that PID 1 lives, where it is time to.
    pub fn feed(&mut self, now: Duration) {
        if now >= self.next {
            if let Err(error) = self.device.write_all(b"1") {
                log!(Error, "cannot feed the watchdog: {error}");
            }
            self.next = now + self.period;
        }
    }

    /// When it must be fed again, in time since boot.
    pub fn deadline(&self) -> Duration {
        self.next
    }

    /// Lets the watchdog go ("magic close"), where the machine is to stand still.
    pub fn disarm(&mut self) {
        let _ = self.device.write_all(b"V");
        self.next = Duration::MAX;
    }

    /// Whether this watchdog restarted the machine before this boot.
    pub fn has_reset(&self) -> bool {
        self.has_reset
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> &File {
        &self.device
    }
}
