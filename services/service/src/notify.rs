//! What a service tells PID 1 of itself (sd_notify(3)).
//!
//! Not by the crate `sd-notify`: it waits without a bound where PID 1 does not
//! read, and takes no abstract socket.

use std::ffi::OsStr;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use log_line::Level;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};

use crate::say;

/// How long one message may wait for PID 1 to read those before it. PID 1 never
/// blocks; if it hangs nevertheless, that must not stop every service.
const LIMIT: Duration = Duration::from_secs(1);

/// The way to PID 1. Without `NOTIFY_SOCKET`, as on a terminal, every message
/// goes to nobody.
#[derive(Debug)]
pub struct Notify {
    to: Option<(UnixDatagram, UnixAddr)>,
    status: String,
}

impl Notify {
    /// The way that `NOTIFY_SOCKET` names. Where it cannot be used, a warning
    /// goes to the log and each message to nobody.
    pub fn from_environment() -> Self {
        Self::to(std::env::var_os("NOTIFY_SOCKET").as_deref())
    }

    fn to(path: Option<&OsStr>) -> Self {
        let to = path.and_then(|path| match open(path) {
            Ok(to) => Some(to),
            Err(error) => {
                let path = path.display();
                say(Level::Warning, &format!("NOTIFY_SOCKET {path}: {error}"));
                None
            }
        });
        Self {
            to,
            status: String::new(),
        }
    }

    /// The service is ready: what requires it may start.
    pub fn ready(&self) {
        self.send("READY=1", &[]);
    }

    /// The service is ready, and what it is doing.
    pub fn ready_with_status(&mut self, status: &str) {
        self.status = status.to_owned();
        self.send(&format!("READY=1\n{}", status_line(status)), &[]);
    }

    /// The service reads its configuration again; [`Self::ready`] ends that.
    pub fn reloading(&self) {
        self.send("RELOADING=1", &[]);
    }

    /// The service is alive: what `watchdog` of its definition waits for.
    pub fn alive(&self) {
        self.send("WATCHDOG=1", &[]);
    }

    /// The service ends because it was asked to.
    pub fn stopping(&self) {
        self.send("STOPPING=1", &[]);
    }

    /// What the service is doing, one line for `wherry status`. Sent only where
    /// it has changed.
    pub fn status(&mut self, status: &str) {
        if self.status != status {
            self.status = status.to_owned();
            self.send(&status_line(status), &[]);
        }
    }

    /// Asks PID 1 to keep copies of descriptors and to pass them to this
    /// service's next run, where [`crate::Descriptors`] has them by this name.
    /// The definition says how many PID 1 takes (`stored-descriptors`).
    pub fn store(&self, name: &str, descriptors: &[BorrowedFd<'_>]) {
        self.send(&format!("FDSTORE=1\nFDNAME={name}"), descriptors);
    }

    fn send(&self, message: &str, descriptors: &[BorrowedFd<'_>]) {
        let Some((socket, to)) = &self.to else {
            return;
        };
        let numbers: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
        let rights = [ControlMessage::ScmRights(&numbers)];
        let sent = sendmsg(
            socket.as_raw_fd(),
            &[IoSlice::new(message.as_bytes())],
            if numbers.is_empty() { &[] } else { &rights },
            MsgFlags::MSG_NOSIGNAL,
            Some(to),
        );
        if let Err(errno) = sent {
            say(Level::Warning, &format!("cannot notify PID 1: {errno}"));
        }
    }
}

fn status_line(status: &str) -> String {
    format!("STATUS={}", status.replace('\n', " "))
}

fn open(path: &OsStr) -> io::Result<(UnixDatagram, UnixAddr)> {
    let address = match path.as_bytes() {
        [b'@', name @ ..] => UnixAddr::new_abstract(name)?,
        _ => UnixAddr::new(path)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_write_timeout(Some(LIMIT))?;
    Ok((socket, address))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::SocketAddr;
    use std::time::Instant;

    fn received(pid1: &UnixDatagram) -> String {
        let mut bytes = [0; 256];
        pid1.set_read_timeout(Some(Duration::from_secs(10)))
            .unwrap();
        let length = pid1.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    }

    #[test]
    fn pid_1_hears_readiness_and_each_new_status_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let pid1 = UnixDatagram::bind(&path).unwrap();
        let mut notify = Notify::to(Some(path.as_os_str()));
        notify.ready();
        assert_eq!(received(&pid1), "READY=1");
        notify.status("two\nlines");
        notify.status("two\nlines");
        notify.store("kept", &[pid1.as_fd()]);
        notify.stopping();
        assert_eq!(received(&pid1), "STATUS=two lines");
        assert_eq!(received(&pid1), "FDSTORE=1\nFDNAME=kept");
        assert_eq!(received(&pid1), "STOPPING=1");
    }

    #[test]
    fn an_abstract_socket_is_reached() {
        let name = format!("wherry-service-test-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let pid1 = UnixDatagram::bind_addr(&address).unwrap();
        let mut notify = Notify::to(Some(OsStr::new(&format!("@{name}"))));
        notify.ready_with_status("eth0 10.0.2.15/24");
        assert_eq!(received(&pid1), "READY=1\nSTATUS=eth0 10.0.2.15/24");
    }

    #[test]
    fn a_pid_1_that_does_not_read_holds_nobody_up_for_long() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let pid1 = UnixDatagram::bind(&path).unwrap();
        // Fill its queue.
        let filler = UnixDatagram::unbound().unwrap();
        filler.set_nonblocking(true).unwrap();
        while filler.send_to(b"STATUS=", &path).is_ok() {}
        let begun = Instant::now();
        Notify::to(Some(path.as_os_str())).ready();
        assert!(begun.elapsed() >= LIMIT, "{:?}", begun.elapsed());
        assert!(begun.elapsed() < 10 * LIMIT, "{:?}", begun.elapsed());
        drop(pid1);
    }

    #[test]
    fn without_a_socket_nothing_happens() {
        let mut notify = Notify::to(None);
        notify.ready();
        notify.status("x");
        assert!(notify.to.is_none());
    }
}
