//! PID 1's own log: the kernel's ring buffer, which is there before everything
//! else and survives the log service. The log service reads it from there.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::sync::OnceLock;

pub use log_line::Level;
use nix::fcntl::OFlag;

/// The facility `daemon` of syslog(3): the kernel's own messages have 0.
const FACILITY: u8 = 3 << 3;

/// The longest message in bytes: the kernel takes just under 1024 in one record
/// (`LOG_LINE_MAX`).
const LONGEST: usize = 960;

static DEVICE: OnceLock<Option<File>> = OnceLock::new();

/// Writes one message. It never blocks and never fails: where there is no
/// `/dev/kmsg`, nothing can be said.
pub fn say(level: Level, message: &str) {
    let device = DEVICE.get_or_init(|| {
        OpenOptions::new()
            .write(true)
            .custom_flags((OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).bits())
            .open("/dev/kmsg")
            .ok()
    });
    if let Some(mut device) = device.as_ref() {
        let line = line(level, message);
        // A full ring buffer drops the oldest; there is nothing to do on error.
        let _ = device.write_all(line.as_bytes());
    }
}

/// One record; a line break would begin another one. The kernel shows records on
/// the console as they are, so nothing in them may steer it.
fn line(level: Level, message: &str) -> String {
    let mut text = log_line::harmless(&message.replace('\n', " "));
    if text.len() > LONGEST {
        let end = (0..=LONGEST)
            .rev()
            .find(|&end| text.is_char_boundary(end))
            .unwrap_or(0);
        text.truncate(end);
        text.push('…');
    }
    format!("<{}>init: {text}\n", FACILITY | level.number())
}

/// Says something at a level, as `format!` does.
macro_rules! log {
    ($level:ident, $($argument:tt)*) => {
        $crate::kernel_log::say($crate::kernel_log::Level::$level, &format!($($argument)*))
    };
}
pub(crate) use log;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_record_with_facility_and_level() {
        assert_eq!(line(Level::Warning, "a\nb"), "<28>init: a b\n");
        assert_eq!(
            line(Level::Info, "\x1b[2J\u{202e}"),
            "<30>init: \\x1b[2J\\u{202e}\n"
        );
    }

    #[test]
    fn a_long_message_is_cut_at_a_character() {
        let long = line(Level::Info, &"é".repeat(2000));
        assert!(long.len() < 1000);
        assert!(long.ends_with("…\n"));
    }
}
