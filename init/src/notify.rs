//! What a service says of itself on its notification socket, in the words of
//! sd_notify(3).

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use crate::sys;

/// What is read of a datagram, in bytes.
pub const MAX_MESSAGE: usize = 16384;

/// The most descriptors in one datagram (`SCM_MAX_FD` of the kernel).
pub const MAX_DESCRIPTORS: usize = 253;

/// One datagram's assignments, as far as PID 1 uses them. Others
/// (`MAINPID=`, `ERRNO=`, `BARRIER=1`…) are ignored, as sd_notify(3) asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// `READY=1`
    pub ready: bool,
    /// `RELOADING=1`
    pub reloading: bool,
    /// `STOPPING=1`
    pub stopping: bool,
    /// `WATCHDOG=1`
    pub watchdog: bool,
    /// `FDSTORE=1`: keep the descriptors that came along.
    pub store: bool,
    /// `FDSTOREREMOVE=1`: forget those named [`Self::name`].
    pub remove: bool,
    /// `FDNAME=`
    pub name: Option<String>,
    /// `STATUS=`
    pub status: Option<String>,
}

/// The longest status that is kept, in characters: it becomes one line of a
/// table.
const STATUS_LENGTH: usize = 256;

/// A datagram as it came.
#[derive(Debug)]
pub struct Received {
    /// What it says.
    pub message: Message,
    /// The descriptors that came with it, all of them.
    pub descriptors: Vec<OwnedFd>,
    /// Whether it is longer than [`MAX_MESSAGE`].
    pub is_cut: bool,
}

/// Takes one datagram and the descriptors that came with it; `None` when none
/// waits.
///
/// There is room for as many descriptors as a datagram can have. With less, the
/// kernel would close the others here, however long that takes.
pub fn receive(socket: BorrowedFd<'_>) -> Option<Received> {
    let mut bytes = [0; MAX_MESSAGE];
    let mut control = nix::cmsg_space!([std::os::fd::RawFd; MAX_DESCRIPTORS]);
    loop {
        let mut buffer = [IoSliceMut::new(&mut bytes)];
        let received = recvmsg::<()>(
            socket.as_raw_fd(),
            &mut buffer,
            Some(&mut control),
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC,
        );
        let (length, descriptors, is_cut) = match received {
            Ok(message) => {
                let mut descriptors = Vec::new();
                for part in message.cmsgs().into_iter().flatten() {
                    if let ControlMessageOwned::ScmRights(numbers) = part {
                        descriptors.extend(
                            numbers
                                .into_iter()
                                .filter_map(|number| sys::inherit(number).ok()),
                        );
                    }
                }
                let is_cut = message.flags.contains(MsgFlags::MSG_TRUNC);
                (message.bytes, descriptors, is_cut)
            }
            Err(Errno::EINTR) => continue,
            Err(_) => return None,
        };
        // A line that is cut may mean something else.
        let text = &bytes[..length];
        let text = match (is_cut, text.iter().rposition(|byte| *byte == b'\n')) {
            (false, _) => text,
            (true, Some(end)) => &text[..end],
            (true, None) => &[],
        };
        return Some(Received {
            message: parse(text),
            descriptors,
            is_cut,
        });
    }
}

/// Reads a datagram. Anything may be in it; what is not understood is left.
pub fn parse(datagram: &[u8]) -> Message {
    let mut message = Message::default();
    for line in datagram.split(|byte| *byte == b'\n') {
        let line = String::from_utf8_lossy(line);
        let Some((key, value)) = line.split_once('=') else {
            continue;
        };
        let set = value == "1";
        match key {
            "READY" => message.ready |= set,
            "RELOADING" => message.reloading |= set,
            "STOPPING" => message.stopping |= set,
            "WATCHDOG" => message.watchdog |= set,
            "FDSTORE" => message.store |= set,
            "FDSTOREREMOVE" => message.remove |= set,
            "FDNAME" if is_descriptor_name(value) => message.name = Some(value.to_owned()),
            "STATUS" => {
                message.status = Some(
                    value
                        .chars()
                        .filter(|character| !character.is_control())
                        .take(STATUS_LENGTH)
                        .collect(),
                );
            }
            _ => {}
        }
    }
    message
}

/// What sd_pid_notify_with_fds(3) allows, short enough for an environment
/// variable that holds many.
fn is_descriptor_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name
            .chars()
            .all(|character| character.is_ascii_graphic() && character != ':')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_assignments_come_in_one_datagram() {
        assert_eq!(
            parse(b"READY=1\nSTATUS=up\nMAINPID=7\n"),
            Message {
                ready: true,
                status: Some("up".to_owned()),
                ..Message::default()
            }
        );
    }

    #[test]
    fn a_status_cannot_break_the_line_or_flood_it() {
        let long = format!("STATUS=\x1b[31m{}", "x".repeat(5000));
        let status = parse(long.as_bytes()).status.unwrap();
        assert!(status.starts_with("[31mxx"));
        assert_eq!(status.len(), STATUS_LENGTH);
    }

    #[test]
    fn garbage_means_nothing() {
        assert_eq!(parse(b"\xff\xfe==\0\nREADY\nREADY=yes"), Message::default());
    }

    #[test]
    fn a_descriptor_name_with_a_separator_is_not_taken() {
        assert_eq!(parse(b"FDNAME=a:b").name, None);
        assert_eq!(parse(b"FDNAME=stored").name.as_deref(), Some("stored"));
    }
}
