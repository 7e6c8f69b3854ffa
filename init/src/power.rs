//! The power key: a button on the case, or a hypervisor that presses it.

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;

use crate::sys;

/// `EV_KEY` and `KEY_POWER` of linux/input-event-codes.h.
const EV_KEY: u16 = 1;
const KEY_POWER: u16 = 116;

/// The size of `struct input_event` on 64-bit machines (linux/input.h): a time
/// of 16 bytes, type, code, value.
const EVENT: usize = 24;

/// The input devices that have a power key.
#[derive(Debug, Default)]
pub struct PowerKeys(Vec<File>);

impl PowerKeys {
    /// Opens those that are there. A keyboard that is plugged in later does not
    /// count.
    pub fn open() -> Self {
        let devices = fs::read_dir("/dev/input")
            .into_iter()
            .flatten()
            .filter_map(|entry| {
                let entry = entry.ok()?;
                let is_event = entry.file_name().to_str()?.starts_with("event");
                let device = is_event
                    .then(|| {
                        OpenOptions::new()
                            .read(true)
                            .custom_flags((OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
                            .open(entry.path())
                    })?
                    .ok()?;
                sys::has_key(&device, KEY_POWER).then_some(device)
            })
            .collect();
        Self(devices)
    }

    /// The devices with their numbers, to be watched.
    pub fn devices(&self) -> impl Iterator<Item = (u32, &File)> {
        (0..).zip(&self.0)
    }

    /// Reads what device `number` has to say: whether the key was pressed.
    pub fn pressed(&mut self, number: u32) -> bool {
        let Some(device) = self.0.get_mut(number as usize) else {
            return false;
        };
        let mut bytes = [0; EVENT * 16];
        let Ok(count) = device.read(&mut bytes) else {
            return false;
        };
        bytes[..count].chunks_exact(EVENT).any(is_power_press)
    }
}

fn is_power_press(event: &[u8]) -> bool {
    let half = |at: usize| u16::from_ne_bytes([event[at], event[at + 1]]);
    half(16) == EV_KEY && half(18) == KEY_POWER && event[20] == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_press_of_the_power_key_counts() {
        let event = |kind: u16, code: u16, value: i32| {
            let mut bytes = vec![0; 16];
            bytes.extend(kind.to_ne_bytes());
            bytes.extend(code.to_ne_bytes());
            bytes.extend(value.to_ne_bytes());
            bytes
        };
        assert!(is_power_press(&event(1, 116, 1)));
        assert!(!is_power_press(&event(1, 116, 0)), "its release");
        assert!(!is_power_press(&event(1, 30, 1)), "another key");
        assert!(!is_power_press(&event(0, 116, 1)), "no key");
    }
}
