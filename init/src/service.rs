//! What PID 1 holds for one service, whether it runs or not: the pipe of its
//! output, its notification socket, its listening sockets, the descriptors it
//! stored, and its run where there is one.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use definition::{Entry, Listen, Role};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike, UnixAddr,
    bind, listen, setsockopt, socket, sockopt,
};
use nix::unistd::{Pid, pipe2};
use runtime::cgroup::Cgroup;
use supervisor::{Exit, Notice};

use crate::kernel_log::log;
use crate::notify::{self, Message};
use crate::source::Sources;

/// The place of a service in PID 1's table.
pub type Id = u32;

/// Where the notification sockets are on the machine.
const NOTIFY: &str = "/run/wherry/notify";

/// A service and all that is kept for it.
#[derive(Debug)]
pub struct Service {
    /// Its definition and root.
    pub entry: Entry,
    /// Whether it is the operator's own.
    pub operator: bool,
    /// Whether a client has defined it, until the next boot.
    pub for_this_boot: bool,
    /// Its output.
    pub output: Output,
    /// Where it notifies.
    pub notify: OwnedFd,
    /// Its listening sockets, in the order of the definition.
    pub sockets: Vec<OwnedFd>,
    /// Whether the sockets are watched, to start it on demand.
    pub activation: bool,
    /// The descriptors it stored, with their names.
    pub stored: Vec<(String, OwnedFd)>,
    /// Its run, where it has one.
    pub run: Option<Run>,
    /// What its specification became, for probes.
    pub prepared: Option<runtime::Prepared>,
    /// The probe under way.
    pub probe: Option<Pid>,
    /// Its `STATUS=`.
    pub status: String,
    /// How its last run ended.
    pub last_exit: Option<String>,
}

/// The pipe of a service's standard output and error. PID 1 keeps both ends,
/// so neither a restart of the service nor one of the log service breaks it.
#[derive(Debug)]
pub struct Output {
    /// For the log service.
    pub read: OwnedFd,
    /// For the service.
    pub write: OwnedFd,
}

/// One run of a service.
#[derive(Debug)]
pub struct Run {
    /// The supervisor's number for it.
    pub number: u32,
    /// The container's first process; `None` where PID 1 does the work itself.
    pub process: Option<(Pid, OwnedFd)>,
    /// Where the container reports on its set-up, until it has.
    pub setup: Option<OwnedFd>,
    /// Its cgroup.
    pub cgroup: Option<Cgroup>,
    /// `cgroup.events`, watched once the first process has ended and others
    /// are left.
    pub remains: Option<std::fs::File>,
    /// When to give up waiting for those.
    pub remains_until: Option<Duration>,
    /// Why its program could not be executed.
    pub failure: Option<String>,
    /// How the first process ended.
    pub exit: Option<Exit>,
}

impl Run {
    /// A run in which PID 1 does the work itself, for now.
    pub fn without_process(number: u32) -> Self {
        Self {
            number,
            process: None,
            setup: None,
            cgroup: None,
            remains: None,
            remains_until: None,
            failure: None,
            exit: None,
        }
    }
}

impl Service {
    /// Opens what a service needs before its first run.
    ///
    /// # Errors
    /// What could not be opened.
    pub fn open(entry: Entry, operator: bool) -> Result<Self, String> {
        let notify = notify_socket(&notify_path(entry.name.as_str()))?;
        let sockets = entry
            .definition
            .sockets
            .iter()
            .map(listening_socket)
            .collect::<Result<_, _>>()?;
        Ok(Self {
            output: Output::open()?,
            entry,
            operator,
            for_this_boot: false,
            notify,
            sockets,
            activation: false,
            stored: Vec::new(),
            run: None,
            prepared: None,
            probe: None,
            status: String::new(),
            last_exit: None,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.entry.name.as_str()
    }

    /// Takes a changed definition; it holds from the next run on.
    ///
    /// # Errors
    /// A socket that could not be opened; nothing has changed then.
    pub fn redefine(&mut self, entry: Entry) -> Result<(), String> {
        if entry.definition.sockets != self.entry.definition.sockets {
            // Those that stay the same stay open: no client is turned away.
            let mut old: Vec<(Listen, OwnedFd)> = self
                .entry
                .definition
                .sockets
                .iter()
                .cloned()
                .zip(std::mem::take(&mut self.sockets))
                .collect();
            let mut sockets = Vec::new();
            for wanted in &entry.definition.sockets {
                match old.iter().position(|(listen, _)| listen == wanted) {
                    Some(index) => sockets.push(old.swap_remove(index).1),
                    None => sockets.push(listening_socket(wanted)?),
                }
            }
            self.sockets = sockets;
        }
        self.entry = entry;
        Ok(())
    }
}

/// What a service says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// The run that says it.
    pub run: u32,
    /// What the supervisor has to know.
    pub notices: Vec<Notice>,
    /// Whether its status is another one.
    pub status: bool,
}

impl Service {
    /// Its role in the OS, where it has one.
    pub fn role(&self) -> Option<Role> {
        self.entry.definition.role
    }

    /// The process of its run, with its number.
    pub fn process(&self) -> Option<Pid> {
        let (pid, _) = self.run.as_ref()?.process.as_ref()?;
        Some(*pid)
    }

    /// Takes one message from its notification socket; `None` when none waits.
    /// What somebody says while it does not run is dropped.
    pub fn hear(&mut self) -> Option<Said> {
        loop {
            let (message, received) = notify::receive(self.notify.as_fd())?;
            let Some(run) = self.run.as_ref().map(|run| run.number) else {
                continue;
            };
            if let Some(status) = &message.status {
                self.status.clone_from(status);
            }
            self.store(&message, received);
            let notices = [
                (message.ready, Notice::Ready),
                (message.reloading, Notice::Reloading),
                (message.stopping, Notice::Stopping),
                (message.watchdog, Notice::Watchdog),
            ];
            let notices = notices.into_iter().filter(|(said, _)| *said);
            return Some(Said {
                run,
                notices: notices.map(|(_, notice)| notice).collect(),
                status: message.status.is_some(),
            });
        }
    }

    fn store(&mut self, message: &Message, received: Vec<OwnedFd>) {
        let name = message.name.as_deref().unwrap_or("stored");
        if message.remove {
            self.stored.retain(|(stored, _)| stored != name);
        }
        if !message.store {
            return;
        }
        let most = self.entry.definition.stored_descriptors;
        for descriptor in received {
            if self.stored.len() < most as usize {
                self.stored.push((name.to_owned(), descriptor));
            } else {
                log!(
                    Warning,
                    "{}: may store {most} descriptors and has; another one is dropped \
                     (key stored-descriptors)",
                    self.entry.name
                );
            }
        }
    }

    /// Ends its run, of whose processes none is left: what is watched is not any
    /// more, and the cgroup goes.
    pub fn end_run(&mut self, sources: &Sources) -> Option<Run> {
        let run = self.run.take()?;
        if let Some(setup) = &run.setup {
            sources.remove(setup);
        }
        if let Some(remains) = &run.remains {
            sources.remove(remains);
        }
        if let Some(cgroup) = &run.cgroup {
            // Left for the next run where something hangs in it.
            let _ = cgroup.remove();
        }
        self.status.clear();
        self.probe = None;
        Some(run)
    }
}

/// The path of a service's notification socket on the machine.
pub fn notify_path(name: &str) -> PathBuf {
    Path::new(NOTIFY).join(name)
}

impl Output {
    fn open() -> Result<Self, String> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)
            .map_err(|error| format!("cannot make a pipe: {}", error.desc()))?;
        // Only the reader's end: a service that writes faster than the log
        // service reads has to wait.
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|error| format!("cannot set up a pipe: {}", error.desc()))?;
        Ok(Self { read, write })
    }
}

fn notify_socket(path: &Path) -> Result<OwnedFd, String> {
    let failed =
        |call: &str, error: Errno| format!("{call} for {}: {}", path.display(), error.desc());
    let notify = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .map_err(|error| failed("socket", error))?;
    let _ = std::fs::remove_file(path);
    let address = UnixAddr::new(path).map_err(|error| failed("address", error))?;
    bind(notify.as_raw_fd(), &address).map_err(|error| failed("bind", error))?;
    // Connecting to a socket needs the permission to write to it, and the
    // service may run as another user; only it sees this one.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .map_err(|error| format!("permissions of {}: {error}", path.display()))?;
    Ok(notify)
}

/// The clients that may wait to be accepted, as in most servers.
const BACKLOG: i32 = 128;

fn listening_socket(wanted: &Listen) -> Result<OwnedFd, String> {
    match wanted {
        Listen::Unix(path) => {
            let path = Path::new(path);
            if let Some(folder) = path.parent() {
                crate::mount::make_folder(folder, 0o755)?;
            }
            let _ = std::fs::remove_file(path);
            let address = UnixAddr::new(path)
                .map_err(|error| format!("address {}: {}", path.display(), error.desc()))?;
            open_socket(
                AddressFamily::Unix,
                SockType::Stream,
                &address,
                &path.display().to_string(),
            )
        }
        Listen::Tcp(address) => open_internet(SockType::Stream, *address),
        Listen::Udp(address) => open_internet(SockType::Datagram, *address),
    }
}

fn open_internet(kind: SockType, address: std::net::SocketAddr) -> Result<OwnedFd, String> {
    let text = address.to_string();
    match address {
        std::net::SocketAddr::V4(v4) => {
            open_socket(AddressFamily::Inet, kind, &SockaddrIn::from(v4), &text)
        }
        std::net::SocketAddr::V6(v6) => {
            open_socket(AddressFamily::Inet6, kind, &SockaddrIn6::from(v6), &text)
        }
    }
}

fn open_socket(
    family: AddressFamily,
    kind: SockType,
    address: &dyn SockaddrLike,
    text: &str,
) -> Result<OwnedFd, String> {
    let failed = |call: &str, error: Errno| format!("{call} for {text}: {}", error.desc());
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let opened = socket(family, kind, flags, None).map_err(|error| failed("socket", error))?;
    if family != AddressFamily::Unix {
        setsockopt(&opened, sockopt::ReuseAddr, &true)
            .map_err(|error| failed("setsockopt", error))?;
        // The address may be one that the network service has not set yet.
        setsockopt(&opened, sockopt::IpFreebind, &true)
            .map_err(|error| failed("setsockopt", error))?;
    }
    bind(opened.as_raw_fd(), address).map_err(|error| failed("bind", error))?;
    if kind == SockType::Stream {
        let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
        listen(&opened.as_fd(), backlog).map_err(|error| failed("listen", error))?;
    }
    Ok(opened)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_socket_accepts_before_anyone_serves_it() {
        let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        let socket = listening_socket(&Listen::Tcp(address)).unwrap();
        let bound: SockaddrIn = nix::sys::socket::getsockname(socket.as_raw_fd()).unwrap();
        std::net::TcpStream::connect(std::net::SocketAddrV4::from(bound)).unwrap();
    }

    #[test]
    fn an_address_in_use_is_named() {
        let address: std::net::SocketAddr = "127.0.0.1:0".parse().unwrap();
        let first = listening_socket(&Listen::Tcp(address)).unwrap();
        let bound: SockaddrIn = nix::sys::socket::getsockname(first.as_raw_fd()).unwrap();
        let again = std::net::SocketAddr::V4(bound.into());
        let error = listening_socket(&Listen::Tcp(again)).unwrap_err();
        assert!(error.contains(&again.to_string()), "{error}");
    }
}
