//! The listening sockets that PID 1 holds for services.
//!
//! One on a path is made in a folder that was opened without following a link,
//! and never in the place of something else: services can write where these
//! folders are, and PID 1's own control socket is near.

use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::foreign::Foreign;
use crate::service::Id;
use definition::{Definition, Listen, MEETING_PLACE};
use nix::errno::Errno;
use nix::fcntl::{
    AT_FDCWD, AtFlags, FcntlArg, OFlag, OpenHow, ResolveFlag, fcntl, openat, openat2,
};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, Backlog, MsgFlags, SockFlag, SockType, SockaddrIn, SockaddrIn6, SockaddrLike,
    UnixAddr, accept4, bind, listen, recv, setsockopt, socket, sockopt,
};
use nix::sys::stat::{Mode, SFlag, fstat, fstatat, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

/// The clients that may wait to be accepted, as in most servers.
const BACKLOG: i32 = 128;

/// The most clients that are turned away before PID 1 looks at anything else.
const REFUSED: usize = 64;

/// The sockets of a definition, in its order. Those in `kept` are taken over;
/// where one cannot be opened, nothing of the others that were new is left.
///
/// # Errors
/// Which one, and why.
pub fn open_all(
    definition: &Definition,
    mut kept: Vec<(Listen, OwnedFd)>,
) -> Result<Vec<OwnedFd>, String> {
    let mut sockets = Vec::new();
    let mut new = Vec::new();
    for wanted in &definition.sockets {
        let opened = match kept.iter().position(|(listen, _)| listen == wanted) {
            Some(index) => {
                let (_, socket) = kept.swap_remove(index);
                set_mode(wanted, definition.socket_mode).map(|()| socket)
            }
            None => {
                let socket = open(wanted);
                if socket.is_ok() {
                    new.push(wanted);
                }
                socket.and_then(|socket| {
                    set_mode(wanted, definition.socket_mode)?;
                    Ok(socket)
                })
            }
        };
        match opened {
            Ok(socket) => sockets.push(socket),
            Err(error) => {
                new.into_iter().for_each(remove);
                return Err(error);
            }
        }
    }
    Ok(sockets)
}

/// Removes the name of a socket on a path, if a socket is there.
pub fn remove(listen: &Listen) {
    if let Listen::Unix(path) = listen
        && let Ok((folder, name)) = place(path, false)
        && kind(&folder, name) == Ok(SFlag::S_IFSOCK)
    {
        let _ = unlinkat(&folder, name, UnlinkatFlags::NoRemoveDir);
    }
}

/// Whether a client waits at one of the sockets.
pub fn has_client(sockets: &[Foreign]) -> bool {
    let mut waiting: Vec<PollFd<'_>> = sockets
        .iter()
        .map(|socket| PollFd::new(socket.as_fd(), PollFlags::POLLIN))
        .collect();
    !waiting.is_empty() && poll(&mut waiting, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

/// Turns away the clients that wait: a connection is closed, a message dropped. What
/// a client has sent, and how long it takes to close, is none of PID 1's choice.
pub fn refuse(owner: Id, sockets: &[Foreign]) {
    for socket in sockets {
        // The service that shares it has no run.
        set_blocking(socket, false);
        for _ in 0..REFUSED {
            let refused = match accept4(socket.as_raw_fd(), SockFlag::SOCK_CLOEXEC) {
                // It accepts nothing: its clients send single messages.
                Err(Errno::EOPNOTSUPP) => {
                    recv(socket.as_raw_fd(), &mut [0], MsgFlags::MSG_DONTWAIT).map(drop)
                }
                Ok(client) => {
                    drop(crate::sys::inherit(client).map(|client| Foreign::new(owner, client)));
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if refused.is_err() {
                break;
            }
        }
        set_blocking(socket, true);
    }
}

/// Lets a socket wait, as sd_listen_fds(3) promises, or not. A service shares
/// this with PID 1 and with its next run, so it is set before each start.
pub fn set_blocking(socket: &impl AsFd, blocking: bool) {
    if let Ok(flags) = fcntl(socket, FcntlArg::F_GETFL) {
        let mut flags = OFlag::from_bits_retain(flags);
        flags.set(OFlag::O_NONBLOCK, !blocking);
        let _ = fcntl(socket, FcntlArg::F_SETFL(flags));
    }
}

fn open(wanted: &Listen) -> Result<OwnedFd, String> {
    let failed = |error: Errno| format!("{wanted}: {}", error.desc());
    match wanted {
        Listen::Unix(path) => {
            let (folder, name) = place(path, true).map_err(|error| match error {
                Errno::ELOOP => format!("{wanted}: a part of its path is a link"),
                error => failed(error),
            })?;
            match kind(&folder, name) {
                Err(Errno::ENOENT) => {}
                Err(error) => return Err(failed(error)),
                Ok(_) => {
                    return Err(format!(
                        "{wanted}: the path exists and is not a socket of this service; \
                         remove it, or take another path"
                    ));
                }
            }
            let path = format!("/proc/self/fd/{}/{name}", folder.as_raw_fd());
            let address = UnixAddr::new(Path::new(&path)).map_err(failed)?;
            bound(AddressFamily::Unix, SockType::Stream, &address)
        }
        Listen::Tcp(address) => internet(SockType::Stream, *address),
        Listen::Udp(address) => internet(SockType::Datagram, *address),
    }
    .map_err(failed)
}

fn internet(kind: SockType, address: SocketAddr) -> Result<OwnedFd, Errno> {
    match address {
        SocketAddr::V4(v4) => bound(AddressFamily::Inet, kind, &SockaddrIn::from(v4)),
        SocketAddr::V6(v6) => bound(AddressFamily::Inet6, kind, &SockaddrIn6::from(v6)),
    }
}

fn bound(
    family: AddressFamily,
    kind: SockType,
    address: &dyn SockaddrLike,
) -> Result<OwnedFd, Errno> {
    let opened = socket(family, kind, SockFlag::SOCK_CLOEXEC, None)?;
    if family != AddressFamily::Unix {
        setsockopt(&opened, sockopt::ReuseAddr, &true)?;
        // The address may be one that the network service has not set yet.
        setsockopt(&opened, sockopt::IpFreebind, &true)?;
    }
    if family == AddressFamily::Inet6 {
        // So that `[::]` and `0.0.0.0` can have the same port.
        setsockopt(&opened, sockopt::Ipv6V6Only, &true)?;
    }
    bind(opened.as_raw_fd(), address)?;
    if kind == SockType::Stream {
        let backlog = Backlog::new(BACKLOG).unwrap_or(Backlog::MAXCONN);
        listen(&opened.as_fd(), backlog)?;
    }
    Ok(opened)
}

/// The folder of a socket's path, and the socket's name in it. ELOOP: a part of
/// the path is a link.
fn place(path: &str, make: bool) -> Result<(OwnedFd, &str), Errno> {
    let below = path.strip_prefix(MEETING_PLACE).ok_or(Errno::EINVAL)?;
    let how = || {
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS)
    };
    let mut folder = openat2(AT_FDCWD, MEETING_PLACE, how())?;
    let mut parts = below.split('/').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return Ok((folder, part));
        }
        folder = match openat2(&folder, part, how()) {
            Err(Errno::ENOENT) if make => {
                mkdirat(&folder, part, Mode::from_bits_truncate(0o755))?;
                openat2(&folder, part, how())?
            }
            result => result?,
        };
    }
    Err(Errno::EINVAL)
}

fn kind(folder: &OwnedFd, name: &str) -> Result<SFlag, Errno> {
    let found = fstatat(folder, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    Ok(SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT)
}

/// Who may connect to a socket on a path: connecting needs the permission to
/// write to it.
fn set_mode(listen: &Listen, mode: u32) -> Result<(), String> {
    let Listen::Unix(path) = listen else {
        return Ok(());
    };
    let set = || {
        let (folder, name) = place(path, false)?;
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let found = openat(&folder, name, flags, Mode::empty())?;
        let kind = SFlag::from_bits_truncate(fstat(&found)?.st_mode) & SFlag::S_IFMT;
        if kind != SFlag::S_IFSOCK {
            return Err(Errno::ENOTSOCK);
        }
        // Not by its name: that may lead elsewhere by now.
        let path = format!("/proc/self/fd/{}", found.as_raw_fd());
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))
    };
    set().map_err(|error: Errno| format!("permissions of {listen}: {}", error.desc()))
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use nix::sys::socket::getsockname;

    use super::*;
    use crate::children::Children;
    use crate::foreign;

    fn any() -> (OwnedFd, SocketAddr) {
        let socket = open(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).unwrap();
        let bound: SockaddrIn = getsockname(socket.as_raw_fd()).unwrap();
        let address = SocketAddr::V4(bound.into());
        (socket, address)
    }

    #[test]
    fn a_tcp_socket_accepts_before_anyone_serves_it_and_blocks_who_does() {
        let (socket, address) = any();
        let sockets = [Foreign::new(0, socket)];
        assert!(!has_client(&sockets));
        TcpStream::connect(address).unwrap();
        assert!(has_client(&sockets));
        let flags = OFlag::from_bits_retain(fcntl(&sockets[0], FcntlArg::F_GETFL).unwrap());
        assert!(!flags.contains(OFlag::O_NONBLOCK));
    }

    #[test]
    fn an_address_in_use_is_named() {
        let (_first, address) = any();
        let error = open(&Listen::Tcp(address)).unwrap_err();
        assert!(error.contains(&address.to_string()), "{error}");
    }

    #[test]
    fn both_families_have_one_port() {
        let v4 = open(&Listen::Tcp("0.0.0.0:0".parse().unwrap())).unwrap();
        let bound: SockaddrIn = getsockname(v4.as_raw_fd()).unwrap();
        let port = bound.port();
        open(&Listen::Tcp(format!("[::]:{port}").parse().unwrap())).unwrap();
        open(&Listen::Udp(format!("0.0.0.0:{port}").parse().unwrap())).unwrap();
        open(&Listen::Udp(format!("[::]:{port}").parse().unwrap())).unwrap();
    }

    #[test]
    fn clients_are_refused_without_waiting_and_the_socket_stays_as_it_was() {
        use std::io::Read;
        let (socket, address) = any();
        let mut client = TcpStream::connect(address).unwrap();
        let udp = open(&Listen::Udp("127.0.0.1:0".parse().unwrap())).unwrap();
        let bound: SockaddrIn = getsockname(udp.as_raw_fd()).unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        let to = SocketAddr::V4(bound.into());
        sender.send_to(b"x", to).unwrap();
        let sockets = [Foreign::new(0, socket), Foreign::new(0, udp)];
        refuse(0, &sockets);
        assert!(!has_client(&sockets));
        foreign::close_dropped(&mut Children::default());
        assert!(matches!(client.read(&mut [0]), Ok(0) | Err(_)));
        refuse(0, &sockets);
        for socket in &sockets {
            let flags = OFlag::from_bits_retain(fcntl(socket, FcntlArg::F_GETFL).unwrap());
            assert!(!flags.contains(OFlag::O_NONBLOCK));
        }
    }
}
