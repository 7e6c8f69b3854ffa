//! The least that PID 1 can do.
//!
//! The boot benchmark starts it on the kernel and the devices that Wherry boots
//! on, from a verified root that holds nothing else. It prints when the kernel
//! was done and what memory was in use then, and turns the machine off:
//!
//! ```text
//! floor: 0.912345 s MemTotal 498012 kB MemFree 460120 kB MemAvailable 462004 kB
//! ```
//!
//! What Wherry takes beyond these figures is Wherry's.

use nix::mount::{MsFlags, mount};
use nix::sys::reboot::{RebootMode, reboot};
use nix::time::{ClockId, clock_gettime};

fn main() {
    // First of all, so that the figure is the kernel's alone.
    let now = clock_gettime(ClockId::CLOCK_BOOTTIME);
    match now {
        Ok(now) => println!(
            "floor: {}.{:06} s {}",
            now.tv_sec(),
            now.tv_nsec() / 1000,
            memory()
        ),
        Err(error) => println!("floor: no clock: {error}"),
    }
    // Returns only when it fails, and then PID 1's end panics the kernel, which
    // ends the machine as well.
    let _ = reboot(RebootMode::RB_POWER_OFF);
}

/// The lines of `/proc/meminfo` that say what is in use.
fn memory() -> String {
    let nothing = None::<&str>;
    if let Err(error) = mount(nothing, "/proc", Some("proc"), MsFlags::empty(), nothing) {
        return format!("cannot mount /proc: {error}");
    }
    let Ok(text) = std::fs::read_to_string("/proc/meminfo") else {
        return "cannot read /proc/meminfo".to_owned();
    };
    let wanted = ["MemTotal", "MemFree", "MemAvailable"];
    text.lines()
        .filter_map(|line| line.split_once(':'))
        .filter(|(name, _)| wanted.contains(name))
        .map(|(name, value)| format!("{name} {}", value.trim()))
        .collect::<Vec<_>>()
        .join(" ")
}
