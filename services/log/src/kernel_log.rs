//! The kernel's log, `/dev/kmsg`: one message a read
//!
//! Its messages are numbered over a boot. The journal holds the number of the
//! newest one stored, in the same record, so a restart neither repeats nor
//! misses any; what the kernel's ring buffer overwrote before it was read is
//! counted. PID 1 and other programs write there too, under a facility that
//! is not the kernel's.
//!
//! The format is Documentation/ABI/testing/dev-kmsg of the kernel:
//! `priority,number,microseconds,flags[,…];text\n` and then ` KEY=value\n`.

use std::borrow::Cow;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use journal::Level;
use nix::fcntl::OFlag;

/// The longest record that any kernel gives (CONSOLE_EXT_LOG_MAX before 6.4; less
/// since).
const LONGEST: usize = 8192;

/// The open device.
pub struct KernelLog {
    device: File,
    buffer: Vec<u8>,
}

/// One message.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    pub level: Level,
    /// syslog's: 0 is the kernel's own.
    pub facility: u32,
    /// The kernel's number for it.
    pub sequence: u64,
    /// Since the kernel started.
    pub monotonic: Duration,
    pub text: Cow<'a, [u8]>,
    /// What the kernel says of the device that the message is about.
    pub fields: Vec<(&'a str, Cow<'a, [u8]>)>,
}

impl Message<'_> {
    /// Whose message it is.
    pub fn service(&self) -> &'static str {
        match self.facility {
            0 => "kernel",
            _ => "init",
        }
    }
}

/// What a read gives.
#[derive(Debug)]
pub enum Next<'a> {
    Message(Message<'a>),
    /// Not a message, or one that was overwritten while it was waited for.
    Nothing,
    /// All there is for now.
    End,
}

impl KernelLog {
    /// Opens the device; the first message is the oldest that there is.
    pub fn open(path: &Path) -> io::Result<KernelLog> {
        let device = OpenOptions::new()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)?;
        Ok(KernelLog {
            device,
            buffer: vec![0; LONGEST],
        })
    }

    /// The next message.
    pub fn next(&mut self) -> io::Result<Next<'_>> {
        match self.device.read(&mut self.buffer) {
            Ok(0) => Ok(Next::End),
            Ok(length) => Ok(parse(&self.buffer[..length]).map_or(Next::Nothing, Next::Message)),
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(Next::End),
                // EPIPE: the message was overwritten.
                io::ErrorKind::Interrupted | io::ErrorKind::BrokenPipe => Ok(Next::Nothing),
                // EINVAL: longer than the buffer. The kernel passes over it.
                io::ErrorKind::InvalidInput => Ok(Next::Nothing),
                _ => Err(error),
            },
        }
    }

    /// Starts again at the oldest message, because those read could not be
    /// stored.
    pub fn rewind(&mut self) -> io::Result<()> {
        self.device.seek(SeekFrom::Start(0)).map(|_| ())
    }
}

impl AsFd for KernelLog {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.device.as_fd()
    }
}

fn parse(record: &[u8]) -> Option<Message<'_>> {
    let separator = record.iter().position(|byte| *byte == b';')?;
    let head = std::str::from_utf8(&record[..separator]).ok()?;
    let mut numbers = head.split(',');
    let priority: u32 = numbers.next()?.parse().ok()?;
    let sequence = numbers.next()?.parse().ok()?;
    let monotonic = Duration::from_micros(numbers.next()?.parse().ok()?);
    let mut lines = record[separator + 1..].split(|byte| *byte == b'\n');
    let text = lines.next()?;
    let fields = lines.filter_map(|line| {
        let line = line.strip_prefix(b" ")?;
        let equals = line.iter().position(|byte| *byte == b'=')?;
        let name = std::str::from_utf8(&line[..equals]).ok()?;
        Some((name, unescape(&line[equals + 1..])))
    });
    Some(Message {
        level: Level::from_number((priority & 7) as u8)?,
        facility: priority >> 3,
        sequence,
        monotonic,
        fields: fields.collect(),
        text: unescape(text),
    })
}

/// The kernel writes control characters, non-ASCII bytes and backslashes as
/// `\xNN`.
fn unescape(text: &[u8]) -> Cow<'_, [u8]> {
    if !text.contains(&b'\\') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((first, behind)) = rest.split_first() {
        match escaped(rest) {
            Some(byte) => {
                out.push(byte);
                rest = &rest[4..];
            }
            None => {
                out.push(*first);
                rest = behind;
            }
        }
    }
    Cow::Owned(out)
}

fn escaped(text: &[u8]) -> Option<u8> {
    let digits = text.strip_prefix(b"\\x")?.get(..2)?;
    let digits = std::str::from_utf8(digits).ok()?;
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_the_kernel_is_understood() {
        let record = b"4,339,5140900,-;NET: \\xc3\\xa9 a\\x5cb\\x0ac\n SUBSYSTEM=acpi\n DEVICE=+acpi:PNP0A03:00\n";
        let message = parse(record).unwrap();
        assert_eq!(message.service(), "kernel");
        assert_eq!(message.level, Level::Warning);
        assert_eq!(message.sequence, 339);
        assert_eq!(message.monotonic, Duration::from_micros(5_140_900));
        assert_eq!(message.text, "NET: é a\\b\nc".as_bytes());
        assert_eq!(message.fields.len(), 2);
        assert_eq!(
            message.fields[0],
            ("SUBSYSTEM", Cow::Borrowed(&b"acpi"[..]))
        );
    }

    #[test]
    fn a_message_of_pid_1_is_told_from_the_kernels() {
        let message = parse(b"30,7,1,-,caller=T1;init: log is ready\n").unwrap();
        assert_eq!(message.service(), "init");
        assert_eq!(message.level, Level::Info);
        assert_eq!(message.text, &b"init: log is ready"[..]);
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for wrong in ["", ";", "x,1,2,-;text", "1,2;text", "6,1,2,-"] {
            assert_eq!(parse(wrong.as_bytes()), None, "{wrong}");
        }
        assert_eq!(unescape(b"\\x4"), &b"\\x4"[..]);
        assert_eq!(unescape(b"\\xzz\\"), &b"\\xzz\\"[..]);
    }
}
