//! What the updater says: lines for the log with their level (sd-daemon(3)), and
//! what PID 1 shows of it (sd_notify(3)).
//!
//! A change of state is one line that begins with `event=NAME`, then fields as
//! `name=value`, the last being `message="…"` for people.

use std::fmt::Display;
use std::io::Write;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// How grave a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Error = 3,
    Warning = 4,
    Notice = 5,
    Info = 6,
}

/// Says that something has changed.
pub fn event(level: Level, name: &str, fields: &[(&str, &dyn Display)], message: &str) {
    // One write, so that no other line comes between. Nobody to read it is no
    // reason to end.
    let line = format!("<{}>{}\n", level as u8, line(name, fields, message));
    let _ = std::io::stderr().write_all(line.as_bytes());
}

fn line(name: &str, fields: &[(&str, &dyn Display)], message: &str) -> String {
    let mut line = format!("event={name}");
    for (field, value) in fields {
        line += &format!(" {field}={}", quoted(&value.to_string()));
    }
    line + &format!(" message=\"{}\"", escaped(message))
}

fn quoted(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=');
    if !value.is_empty() && value.bytes().all(plain) {
        value.to_owned()
    } else {
        format!("\"{}\"", escaped(value))
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '"' | '\\' => escaped.extend(['\\', character]),
            character if character.is_control() => escaped.push(' '),
            character => escaped.push(character),
        }
    }
    escaped
}

/// A way to PID 1; without `NOTIFY_SOCKET`, as on a terminal, to nobody.
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    said: String,
}

impl Notify {
    pub fn from_environment() -> Self {
        let open = |path: std::ffi::OsString| -> std::io::Result<_> {
            let address = match path.as_bytes() {
                [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
                _ => SocketAddr::from_pathname(&path)?,
            };
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        };
        Self {
            to: std::env::var_os("NOTIFY_SOCKET").and_then(|path| open(path).ok()),
            said: String::new(),
        }
    }

    /// Sends assignments, one a line.
    pub fn send(&self, message: &str) {
        if let Some((socket, to)) = &self.to {
            // A supervisor that does not read must not hold the updater up.
            let _ = socket.send_to_addr(message.as_bytes(), to);
        }
    }

    /// What the updater is doing, where that has changed.
    pub fn status(&mut self, status: &str) {
        if self.said != status {
            self.said = status.to_owned();
            self.send(&format!("STATUS={}", status.replace('\n', " ")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_that_a_program_can_take_apart() {
        assert_eq!(
            line(
                "fell-back",
                &[
                    ("version", &"2.0"),
                    ("reason", &"it said \"no\"\nand = died"),
                    ("none", &"")
                ],
                "2.0 gave way"
            ),
            "event=fell-back version=2.0 reason=\"it said \\\"no\\\" and = died\" none=\"\" \
             message=\"2.0 gave way\""
        );
    }
}
