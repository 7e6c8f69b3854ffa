//! The socket over which PID 1 hands out the services' pipes
//!
//! Each message is `{"service":"NAME"}` and carries one descriptor. What PID 1
//! may add to it later is passed over.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use serde::Deserialize;

use crate::sys;

/// The socket's name in `LISTEN_FDNAMES`.
pub const NAME: &str = "outputs";

/// The longest message; a service's name is shorter than a file name.
const LONGEST: usize = 1024;

/// The socket.
pub struct Outputs {
    socket: OwnedFd,
}

/// What came over it.
#[derive(Debug)]
pub enum Received {
    /// A service's pipe.
    Pipe(String, OwnedFd),
    /// Something else, and what.
    Unusable(&'static str),
    /// Nothing for now.
    Nothing,
    /// PID 1 has closed it.
    Closed,
}

#[derive(Deserialize)]
struct Announcement<'a> {
    #[serde(borrow)]
    service: std::borrow::Cow<'a, str>,
}

impl Outputs {
    /// The socket that PID 1 passed.
    pub fn new(socket: OwnedFd) -> Outputs {
        Outputs { socket }
    }

    /// The next message.
    pub fn receive(&self) -> io::Result<Received> {
        let mut bytes = [0; LONGEST];
        let (length, mut descriptors) = match sys::receive(&self.socket, &mut bytes) {
            Ok(received) => received,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Received::Nothing),
                    io::ErrorKind::ConnectionReset => Ok(Received::Closed),
                    _ => Err(error),
                };
            }
        };
        if length == 0 && descriptors.is_empty() {
            return Ok(Received::Closed);
        }
        let Ok(announced) = serde_json::from_slice::<Announcement<'_>>(&bytes[..length]) else {
            return Ok(Received::Unusable("a message that names no service"));
        };
        Ok(match descriptors.pop() {
            Some(pipe) => Received::Pipe(announced.service.into_owned(), pipe),
            None => Received::Unusable("a message without a descriptor"),
        })
    }
}

impl AsFd for Outputs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}
