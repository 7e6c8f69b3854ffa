//! Terminals of containers: who receives the master.

use std::io::IoSliceMut;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, UnixAddr, connect, recvmsg,
    socket, socketpair,
};
use nix::sys::stat::Mode;

use crate::sys;

/// Where a container's terminal goes.
#[derive(Debug)]
pub enum Console {
    /// There is none.
    None,
    /// To the caller's socket.
    Socket(OwnedFd),
    /// To this program, which relays it: our end, and the container's.
    Relayed(OwnedFd, OwnedFd),
}

impl Console {
    /// Checks the options against each other, and connects.
    pub fn new(terminal: bool, detached: bool, path: Option<&Path>) -> Result<Console> {
        match (terminal, path) {
            (true, None) if detached => {
                bail!(
                    "cannot allocate tty if the runtime will detach without setting console socket: give --console-socket"
                )
            }
            (true, None) => {
                let (ours, theirs) = socketpair(
                    AddressFamily::Unix,
                    SockType::Stream,
                    None,
                    SockFlag::SOCK_CLOEXEC,
                )
                .context("a socket for the terminal")?;
                Ok(Console::Relayed(ours, theirs))
            }
            (true, Some(path)) if detached => {
                Ok(Console::Socket(connected(path).with_context(|| {
                    format!("connect to {}", path.display())
                })?))
            }
            (_, Some(_)) => {
                bail!("cannot use console socket if the runtime will not detach or allocate tty")
            }
            (false, None) => Ok(Console::None),
        }
    }

    /// The end that the container's process sends the master to.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        use std::os::fd::AsFd;
        match self {
            Console::None => None,
            Console::Socket(socket) | Console::Relayed(_, socket) => Some(socket.as_fd()),
        }
    }

    /// The master, if this program relays it; the process has sent it by now.
    pub fn receive(self) -> Result<Option<OwnedFd>> {
        match self {
            Console::None | Console::Socket(_) => Ok(None),
            Console::Relayed(ours, theirs) => {
                drop(theirs);
                received(&ours).context("receive the terminal").map(Some)
            }
        }
    }
}

/// A connection to a Unix stream socket, however long its path is.
pub fn connected(path: &Path) -> Result<OwnedFd, nix::Error> {
    let socket = socket(
        AddressFamily::Unix,
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC,
        None,
    )?;
    match UnixAddr::new(path) {
        Err(Errno::ENAMETOOLONG) => {
            let file = open(path, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
            let short = format!("/proc/self/fd/{}", file.as_raw_fd());
            connect(socket.as_raw_fd(), &UnixAddr::new(short.as_str())?)?;
        }
        address => connect(socket.as_raw_fd(), &address?)?,
    }
    Ok(socket)
}

fn received(socket: &OwnedFd) -> Result<OwnedFd> {
    let mut byte = [0; 64];
    let mut parts = [IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!(i32);
    let message = recvmsg::<()>(
        socket.as_raw_fd(),
        &mut parts,
        Some(&mut space),
        MsgFlags::MSG_CMSG_CLOEXEC,
    )?;
    for part in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(numbers) = part
            && let [number] = numbers[..]
        {
            return Ok(sys::received(number));
        }
    }
    bail!("the container's process has sent none")
}
