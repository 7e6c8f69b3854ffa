//! Descriptors that a container had a hand in, closed where it hurts nobody.
//!
//! `close(2)` of the last reference can take as long as whoever made the
//! descriptor likes: a TCP socket with SO_LINGER waits for its peer, a terminal for
//! its output, a file in a FUSE file system for its server, and a Unix socket closes
//! all that lies unread in its queue. So PID 1 never closes one. What is dropped as
//! [`Foreign`] waits here until a child holds a copy ([`close_dropped`]); PID 1's
//! own close is not the last one then. The child ends, which closes its copies, and
//! however long that takes, it is the child that waits. (The kernel skips the linger
//! of a socket in a process that ends.)

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::fcntl::OFlag;
use nix::unistd::{Pid, pipe2};

use crate::children::{Child, Children};
use crate::service::Id;
use crate::sys;

/// How many children may be closing descriptors of one service. They end at once
/// unless the service has made them wait; from then on it is not listened to.
const MOST_CLOSERS: usize = 4;

/// How many descriptors of one service may wait for a child.
const MOST_WAITING: usize = 1024;

/// Whose the connections of clients of the control socket are: no service's.
pub const OF_CLIENTS: Id = Id::MAX;

thread_local! {
    /// What was dropped and waits for a child.
    static DROPPED: RefCell<Vec<(Id, OwnedFd)>> = const { RefCell::new(Vec::new()) };
}

/// A descriptor that a service has sent, or can do what it likes with. Dropped, it
/// is closed by a child.
#[derive(Debug)]
pub struct Foreign {
    /// Taken away only when it is dropped.
    descriptor: Option<OwnedFd>,
    owner: Id,
}

impl Foreign {
    /// One of the service at that place.
    pub fn new(owner: Id, descriptor: OwnedFd) -> Self {
        Self {
            descriptor: Some(descriptor),
            owner,
        }
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(descriptor) = self.descriptor.take() {
            DROPPED.with_borrow_mut(|dropped| dropped.push((self.owner, descriptor)));
        }
    }
}

impl AsFd for Foreign {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.descriptor {
            Some(descriptor) => descriptor.as_fd(),
            None => unreachable!("it is taken away only when this is dropped"),
        }
    }
}

impl AsRawFd for Foreign {
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

/// Hands all that was dropped to children, one for each service. What no child can
/// be made for waits until the next call.
pub fn close_dropped(children: &mut Children) {
    let mut by_owner: BTreeMap<Id, Vec<OwnedFd>> = BTreeMap::new();
    for (owner, descriptor) in DROPPED.take() {
        by_owner.entry(owner).or_default().push(descriptor);
    }
    for (owner, descriptors) in by_owner {
        match begin(&descriptors) {
            Ok((child, until)) => {
                children.insert(child, Child::Closer(owner));
                // The child has copies, so these are not the last ones.
                drop(descriptors);
                drop(until);
            }
            Err(_) => DROPPED.with_borrow_mut(|dropped| {
                dropped.extend(descriptors.into_iter().map(|one| (owner, one)));
            }),
        }
    }
}

/// Starts a child that holds copies of `descriptors` as long as the returned one is
/// open, and then closes them by ending.
fn begin(descriptors: &[OwnedFd]) -> nix::Result<(Pid, OwnedFd)> {
    let (until, ours) = pipe2(OFlag::O_CLOEXEC)?;
    let mut kept: Vec<RawFd> = descriptors.iter().map(AsRawFd::as_raw_fd).collect();
    kept.push(until.as_raw_fd());
    kept.sort_unstable();
    let child = sys::fork_to(|| {
        // PID 1's own descriptors, copied too, must not live as long as these.
        sys::close_others(&kept);
        let _ = nix::unistd::read(&until, &mut [0]);
    })?;
    Ok((child, ours))
}

/// Whether a service has given more to close than can be closed now: nothing more
/// is taken from it.
pub fn is_clogged(owner: Id, children: &Children) -> bool {
    let waiting = DROPPED.with_borrow(|dropped| {
        let of_it = dropped.iter().filter(|(other, _)| *other == owner);
        of_it.count()
    });
    children.count(Child::Closer(owner)) >= MOST_CLOSERS || waiting >= MOST_WAITING
}

/// Whether something was dropped that no child holds yet.
pub fn is_waiting() -> bool {
    DROPPED.with_borrow(|dropped| !dropped.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::sys::socket::{setsockopt, sockopt};
    use nix::sys::wait::waitpid;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    /// Has everything closed that was dropped, and waits for the children.
    fn close_all() -> usize {
        let mut children = Children::default();
        close_dropped(&mut children);
        assert!(!is_waiting());
        let count = children.count(Child::Closer(3));
        for _ in 0..count {
            // Reaping by number: other tests of this process have children too.
            let pid = children.take(Child::Closer(3)).unwrap();
            waitpid(pid, None).unwrap();
        }
        count
    }

    #[test]
    fn what_is_dropped_is_open_until_a_child_closes_it() {
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        drop(Foreign::new(3, theirs.into()));
        let waits = ours.read(&mut [0]).unwrap_err();
        assert_eq!(waits.kind(), std::io::ErrorKind::WouldBlock);
        assert_eq!(close_all(), 1);
        assert_eq!(ours.read(&mut [0]).unwrap(), 0);
    }

    /// Hostile: A service leaves a TCP socket that lingers for an hour with PID 1. Outcome: PID 1 does not wait when the socket is closed.
    #[test]
    fn a_socket_that_lingers_holds_nobody_up() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let linger = nix::libc::linger {
            l_onoff: 1,
            l_linger: 3600,
        };
        setsockopt(&stream, sockopt::Linger, &linger).unwrap();
        // More than the peer, which reads nothing, takes.
        stream.set_nonblocking(true).unwrap();
        while (&stream).write(&[0; 65536]).is_ok() {}
        stream.set_nonblocking(false).unwrap();
        let begin = Instant::now();
        drop(Foreign::new(3, stream.into()));
        assert_eq!(close_all(), 1);
        assert!(begin.elapsed() < Duration::from_secs(600));
    }

    #[test]
    fn a_service_whose_descriptors_cannot_be_closed_is_clogged_alone() {
        let mut children = Children::default();
        for number in 0..MOST_CLOSERS {
            assert!(!is_clogged(1, &children));
            children.insert(Pid::from_raw(100 + number as i32), Child::Closer(1));
        }
        assert!(is_clogged(1, &children));
        assert!(!is_clogged(2, &children));
    }
}
