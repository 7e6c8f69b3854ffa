//! What the journal holds: entries, and the words that describe them.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use log_line::Level;

/// The kernel's random name for one boot
/// (`/proc/sys/kernel/random/boot_id`).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BootId(pub [u8; 16]);

impl fmt::Display for BootId {
    /// 32 lower-case hexadecimal digits without dashes, as machine-id(5) and
    /// journald write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for BootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Text that is not a boot id.
#[derive(Debug, PartialEq, Eq)]
pub struct InvalidBootId;

impl fmt::Display for InvalidBootId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a boot id is 32 hexadecimal digits, dashes between them allowed")
    }
}

impl std::error::Error for InvalidBootId {}

impl FromStr for BootId {
    type Err = InvalidBootId;

    /// Accepts 32 hexadecimal digits, with or without the UUID's dashes, and
    /// the newline at the end of the kernel's file.
    fn from_str(text: &str) -> Result<BootId, InvalidBootId> {
        let mut id = [0u8; 16];
        let mut digits = 0;
        for character in text.trim_end().chars().filter(|c| *c != '-') {
            let digit = character.to_digit(16).ok_or(InvalidBootId)?;
            let byte = id.get_mut(digits / 2).ok_or(InvalidBootId)?;
            *byte = *byte << 4 | digit as u8;
            digits += 1;
        }
        if digits == 32 {
            Ok(BootId(id))
        } else {
            Err(InvalidBootId)
        }
    }
}

/// One line of a service's output, one message of the kernel, or one event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Counts up by one over the journal's lifetime; the order of entries.
    pub sequence: u64,
    /// Which boot of this machine, counted from the journal's first.
    pub boot: u64,
    /// The kernel's name for that boot.
    pub boot_id: BootId,
    /// Wall clock when the line was stored, to the microsecond. Before the
    /// time is set (no clock battery, no NTP yet) it can be years off: never
    /// order by it.
    pub realtime: SystemTime,
    /// Since that boot's kernel started, time asleep included, to the
    /// microsecond.
    pub monotonic: Duration,
    /// Who wrote it: a service's name, `kernel`, or `init` (PID 1).
    pub service: String,
    /// How severe it is.
    pub level: Level,
    /// The line continues in the service's next entry: it was longer than
    /// [`MAX_MESSAGE`](crate::MAX_MESSAGE), or its end had not arrived when it
    /// had to be stored.
    pub unfinished: bool,
    /// The line, without its level prefix and newline, byte for byte: not
    /// always UTF-8.
    pub message: Vec<u8>,
    /// Additional fields by name, in the order written; most entries have none.
    /// `docs/journal.md` lists the names that the log service writes.
    pub fields: Vec<(String, Vec<u8>)>,
}

impl Entry {
    /// The message as text, each invalid byte sequence shown as U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.message)
    }

    /// The value of the field `name`.
    pub fn field(&self, name: &str) -> Option<&[u8]> {
        self.fields
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_slice())
    }
}

/// A boot with entries in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Counted from the journal's first boot.
    pub index: u64,
    /// The kernel's name for it.
    pub id: BootId,
    /// Sequence numbers of the first and the last remaining entry.
    pub sequences: (u64, u64),
    /// Wall clock of the first remaining entry (it can be wrong, see
    /// [`Entry::realtime`]).
    pub first: SystemTime,
    /// Wall clock of the last entry.
    pub last: SystemTime,
    /// Number of remaining entries.
    pub entries: u64,
}

/// A service with entries in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Number of remaining entries.
    pub entries: u64,
    /// The newest boot in which it wrote something ([`Boot::index`]).
    pub last_boot: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_id_reads_back_with_and_without_dashes() {
        let id: BootId = "0f1e2d3c-4b5a-6978-8796-a5b4c3d2e1f0\n".parse().unwrap();
        assert_eq!(id.to_string(), "0f1e2d3c4b5a69788796a5b4c3d2e1f0");
        assert_eq!(id.to_string().parse(), Ok(id));
        for wrong in ["", "0f1e", "0f1e2d3c4b5a69788796a5b4c3d2e1f0a", "zz"] {
            assert_eq!(wrong.parse::<BootId>(), Err(InvalidBootId), "{wrong}");
        }
    }
}
