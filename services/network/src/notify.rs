//! sd_notify(3): tells the supervisor how the service is.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// A way to the supervisor; without `NOTIFY_SOCKET`, as on a terminal, to
/// nobody.
pub struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
}

impl Notify {
    pub fn from_environment() -> Self {
        let to = std::env::var_os("NOTIFY_SOCKET").and_then(|path| match open(&path) {
            Ok(to) => Some(to),
            Err(error) => {
                log::warn!("{}: {error}", path.display());
                None
            }
        });
        Self { to }
    }

    /// Sends assignments, one a line: `READY=1`, `STATUS=…`.
    pub fn send(&self, message: &str) {
        if let Some((socket, to)) = &self.to
            && let Err(error) = socket.send_to_addr(message.as_bytes(), to)
        {
            log::warn!("cannot notify the supervisor: {error}");
        }
    }
}

fn open(path: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    // A supervisor that does not read must not hold the network up.
    socket.set_nonblocking(true)?;
    Ok((socket, address))
}
