//! The services' output pipes on their way to the log service.
//!
//! The log service gets a fresh socket at each of its starts and, over it, the
//! read end of every pipe with the service's name. What it has not stored when
//! it ends is still in the pipes.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, sendmsg, socketpair,
};

use crate::kernel_log::log;

/// The name of its socket in `LISTEN_FDNAMES`.
pub const NAME: &str = "outputs";

/// PID 1's side of the socket, and what did not fit into it yet.
#[derive(Debug, Default)]
pub struct Outputs {
    socket: Option<OwnedFd>,
    waiting: VecDeque<(String, OwnedFd)>,
}

impl Outputs {
    /// Goes on with the socket of an earlier run of PID 1.
    pub fn inherited(socket: Option<OwnedFd>) -> Self {
        Self {
            socket,
            waiting: VecDeque::new(),
        }
    }

    /// A fresh socket; the result is the log service's side.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn connect(&mut self) -> Result<OwnedFd, String> {
        let (ours, theirs) = socketpair(
            AddressFamily::Unix,
            SockType::SeqPacket,
            None,
            SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        )
        .map_err(|error| format!("cannot make the log service's socket: {}", error.desc()))?;
        self.socket = Some(ours);
        self.waiting.clear();
        Ok(theirs)
    }

    /// Hands a pipe over. Without a log service it is handed over when there is
    /// one.
    pub fn hand_over(&mut self, service: &str, pipe: &OwnedFd) {
        if self.socket.is_none() {
            return;
        }
        match pipe.try_clone() {
            Ok(copy) => self.waiting.push_back((service.to_owned(), copy)),
            Err(error) => log!(Error, "the output of {service} is not logged: {error}"),
        }
    }

    /// Sends what fits. Returns whether something still waits for the log
    /// service to read.
    pub fn flush(&mut self) -> bool {
        let Some(socket) = &self.socket else {
            return false;
        };
        while let Some((service, pipe)) = self.waiting.front() {
            let text = serde_json::json!({ "service": service }).to_string();
            let sent = sendmsg::<()>(
                socket.as_raw_fd(),
                &[IoSlice::new(text.as_bytes())],
                &[ControlMessage::ScmRights(&[pipe.as_raw_fd()])],
                MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL,
                None,
            );
            match sent {
                Ok(_) => {
                    self.waiting.pop_front();
                }
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN | Errno::ETOOMANYREFS) => return true,
                Err(_) => {
                    // It has ended; its next start gets everything again.
                    self.socket = None;
                    self.waiting.clear();
                    return false;
                }
            }
        }
        false
    }

    /// PID 1's side, to be watched while something waits.
    pub fn socket(&self) -> Option<&OwnedFd> {
        self.socket.as_ref()
    }
}
