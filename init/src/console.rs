//! The machine's console: the few lines that a person in front of it must see.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;

use nix::fcntl::OFlag;

/// Writes `text` to the console, without what would steer it: reasons and names in
/// it come from containers and definitions. It never waits: a serial line whose other side
/// has said stop loses the text, which is in the log too.
pub fn say(text: &str) {
    let console = OpenOptions::new()
        .write(true)
        .custom_flags((OFlag::O_NOCTTY | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits())
        .open("/dev/console");
    if let Ok(mut console) = console {
        let _ = console.write_all(log_line::harmless_lines(text).as_bytes());
    }
}
