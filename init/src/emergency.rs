//! What happens when PID 1 itself fails.
//!
//! A panic or a fatal signal executes the program again with `--emergency`, with
//! all descriptors open, so the services go on and lose no output. The fresh
//! process says on the console and in the kernel's log what happened and then,
//! as `wherry.emergency=` asks, restarts the machine (so that boot counting can
//! fall back) or stays and only reaps. A failure in here restarts at once, and
//! where even that fails PID 1's end is a kernel panic, which restarts too.

use std::ffi::CString;
use std::io::Write;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};

use crate::cmdline::{self, Emergency};
use crate::console;
use crate::kernel_log::log;
use crate::sys;

/// How long the message stays readable before the machine restarts.
const GRACE: Duration = Duration::from_secs(5);
/// How long writing everything to the disks may take.
const SYNC_LIMIT: Duration = Duration::from_secs(10);
/// How often the hardware watchdog is told that the machine is meant to stay.
const WATCHDOG_PERIOD: Duration = Duration::from_secs(5);

/// From here on a panic or a crash of this process leads to [`run`].
pub fn arm() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic
            .location()
            .map(|location| format!(" at {}:{}", location.file(), location.line()))
            .unwrap_or_default();
        let message = panic
            .payload()
            .downcast_ref::<&str>()
            .map(|text| (*text).to_owned())
            .or_else(|| panic.payload().downcast_ref::<String>().cloned())
            .unwrap_or_default();
        enter(&format!("panic{place}: {message}"));
    }));
    if let Err(error) = sys::catch_crashes() {
        log!(Error, "cannot catch crashes of PID 1: {error}");
    }
}

/// Gives up normal operation for `reason`.
pub fn enter(reason: &str) -> ! {
    let reason = reason.replace('\0', " ");
    sys::execute_emergency(&CString::new(reason).unwrap_or_default())
}

/// The emergency process: `init --emergency REASON WATCHDOG`.
pub fn run(reason: &str, watchdog: Option<&str>) -> ! {
    let policy = std::fs::read_to_string("/proc/cmdline")
        .map(|text| cmdline::parse(&text).emergency)
        .unwrap_or_default();
    let what_next = match policy {
        Emergency::Reboot => format!("restarting in {} s", GRACE.as_secs()),
        Emergency::Stay => {
            "the services run on without a supervisor; restart the machine when you can \
             (wherry.emergency=stay)"
                .to_owned()
        }
    };
    let message = format!("PID 1 failed: {reason}; {what_next}");
    log!(Emergency, "{message}");
    console::say(&format!("\nwherry: emergency: {message}\n"));
    let watchdog = watchdog
        .and_then(|number| number.parse().ok())
        .and_then(|fd| sys::inherit(fd).ok());
    let mut watchdog = watchdog.map(std::fs::File::from);
    let mut keep_quiet = || {
        if let Some(device) = &mut watchdog {
            let _ = device.write_all(b"1");
        }
    };
    match policy {
        Emergency::Reboot => {
            let end = Instant::now() + GRACE;
            while Instant::now() < end {
                keep_quiet();
                reap();
                std::thread::sleep(Duration::from_millis(200));
            }
            restart()
        }
        Emergency::Stay => {
            // Ctrl-Alt-Del and `kill 1` are the operator's way to restart.
            let mut signals = SigSet::empty();
            for signal in [Signal::SIGCHLD, Signal::SIGINT, Signal::SIGTERM] {
                signals.add(signal);
            }
            let _ = signals.thread_set_mask();
            let descriptor =
                SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC);
            let Ok(descriptor) = descriptor else {
                restart()
            };
            loop {
                keep_quiet();
                reap();
                let _ = nix::poll::poll(
                    &mut [nix::poll::PollFd::new(
                        std::os::fd::AsFd::as_fd(&descriptor),
                        nix::poll::PollFlags::POLLIN,
                    )],
                    WATCHDOG_PERIOD.as_millis() as u16,
                );
                while let Ok(Some(signal)) = descriptor.read_signal() {
                    if signal.ssi_signo != Signal::SIGCHLD as u32 {
                        log!(Emergency, "asked to restart");
                        restart();
                    }
                }
            }
        }
    }
}

/// Writes the disks' caches out in a child, within a limit, and restarts.
fn restart() -> ! {
    if let Ok(child) = sys::fork_to(nix::unistd::sync) {
        let end = Instant::now() + SYNC_LIMIT;
        while Instant::now() < end
            && matches!(
                waitpid(child, Some(WaitPidFlag::WNOHANG)),
                Ok(WaitStatus::StillAlive)
            )
        {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
    sys::reboot_at_once()
}

fn reap() {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}
