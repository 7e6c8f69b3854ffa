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

/// The first descriptor that a service manager passes (sd_listen_fds(3)).
const FIRST: i32 = 3;
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
    /// Takes the socket over from PID 1, as these two variables tell where it
    /// is. (`LISTEN_PID` is not asked: this process is PID 1's child, and has
    /// another number in its own namespace.)
    pub fn inherit(descriptors: Option<&str>, names: Option<&str>) -> io::Result<Outputs> {
        let number = position(descriptors, names).ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                format!("LISTEN_FDS and LISTEN_FDNAMES name no descriptor \"{NAME}\""),
            )
        })?;
        Ok(Outputs {
            socket: sys::inherit(number)?,
        })
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

/// The number of the descriptor that is called [`NAME`].
fn position(descriptors: Option<&str>, names: Option<&str>) -> Option<i32> {
    let count: usize = descriptors?.parse().ok()?;
    let index = names?
        .split(':')
        .take(count)
        .position(|name| name == NAME)?;
    Some(FIRST + i32::try_from(index).ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_found_by_its_name() {
        assert_eq!(position(Some("1"), Some("outputs")), Some(3));
        assert_eq!(position(Some("2"), Some("other:outputs")), Some(4));
        assert_eq!(position(Some("1"), Some("other:outputs")), None);
        assert_eq!(position(None, Some("outputs")), None);
        assert_eq!(position(Some("x"), None), None);
    }
}
