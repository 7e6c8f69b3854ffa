//! The control socket and its clients: bytes in and out, never waiting.
//!
//! Who stays connected is the rule of [`control::admission`]. A client is read again
//! only when it has taken the answer before, so it cannot make PID 1 keep more than
//! one for it, and a descriptor that comes along ends its connection.

use std::collections::BTreeMap;
use std::io::{ErrorKind, IoSliceMut, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::time::Duration;

use control::admission::{self, Connected, IDLE};
use control::{Init, MAX_REPLY, ProtocolError, Reply, Request, ServerEnd};
use nix::errno::Errno;
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{MsgFlags, getsockopt, recvmsg, sockopt};

use crate::foreign::{self, Foreign};
use crate::kernel_log::log;
use crate::source::{Source, Sources};

/// The most connections at one time.
const MOST: usize = 64;

/// The most connections that are accepted in one turn of the loop.
const ACCEPTED: usize = 16;

/// The most bytes that may wait for one client: a watcher that does not read
/// is disconnected instead of growing PID 1.
const MOST_WAITING: usize = 2 * MAX_REPLY;

/// The most bytes that may wait for all clients; the one with the most goes first.
const MOST_WAITING_IN_ALL: usize = 4 * MAX_REPLY;

/// How often what a client has sent is read before its connection is closed, so that
/// the close has nothing to do.
const DRAINED: usize = 16;

/// One client.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    uid: u32,
    end: ServerEnd<Init>,
    outgoing: Vec<u8>,
    /// When it last asked for something, or took some of what waits for it.
    active: Duration,
    /// Whether it wants to hear of changes.
    watches: bool,
    /// Whether it has something as long as it is connected.
    is_kept: bool,
    /// Whether it waits for the answer to a request.
    is_answer_due: bool,
    /// Whether it may have sent more than was looked at.
    has_more: bool,
    /// Whether it is closed once everything is sent.
    closing: bool,
    /// Whether it sent what cannot be used: nothing more is read of it.
    is_rejected: bool,
    /// Whether it is closed at once: it did not read for too long.
    overflowed: bool,
}

/// The listening socket and all clients.
#[derive(Debug)]
pub struct Clients {
    listener: UnixListener,
    connections: BTreeMap<u32, Connection>,
    next: u32,
    closed: Vec<u32>,
}

impl Clients {
    /// Listens at `path`.
    ///
    /// # Errors
    /// What failed.
    pub fn listen(path: &str) -> Result<Self, String> {
        let _ = std::fs::remove_file(path);
        let listener = UnixListener::bind(path)
            .map_err(|error| format!("cannot listen at {path}: {error}"))?;
        // Anyone may ask how the machine is; what changes something is for
        // user 0 alone.
        std::fs::set_permissions(path, PermissionsExt::from_mode(0o666))
            .map_err(|error| format!("permissions of {path}: {error}"))?;
        Self::with(listener)
    }

    /// Goes on with the socket of an earlier run of PID 1.
    ///
    /// # Errors
    /// It is no socket.
    pub fn inherited(socket: OwnedFd) -> Result<Self, String> {
        Self::with(UnixListener::from(socket))
    }

    fn with(listener: UnixListener) -> Result<Self, String> {
        listener
            .set_nonblocking(true)
            .map_err(|error| format!("the control socket: {error}"))?;
        Ok(Self {
            listener,
            connections: BTreeMap::new(),
            next: 0,
            closed: Vec::new(),
        })
    }

    /// The listening socket.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Watches the listening socket.
    ///
    /// # Errors
    /// It cannot be watched.
    pub fn watch(&self, sources: &Sources) -> Result<(), String> {
        sources.add(&self.listener, Source::Listener, EpollFlags::EPOLLIN)
    }

    /// Takes clients that wait to be accepted.
    pub fn accept(&mut self, now: Duration, sources: &Sources) {
        for _ in 0..ACCEPTED {
            let Some(number) = self.accept_one(now) else {
                return;
            };
            let watched = match self.connections.get(&number) {
                Some(client) => {
                    let source = Source::Connection(number);
                    sources.add(&client.stream, source, EpollFlags::EPOLLIN)
                }
                None => continue,
            };
            if let Err(error) = watched {
                log!(Error, "{error}");
                self.close(number, sources);
                continue;
            }
            // The first frame, which is the same for all.
            self.flush(number, now, sources);
            if self.connections.len() > MOST
                && let Some(evicted) = self.evicted(number)
            {
                self.close(evicted, sources);
            }
        }
    }

    fn accept_one(&mut self, now: Duration) -> Option<u32> {
        let (stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        let uid = getsockopt(&stream, sockopt::PeerCredentials).ok()?.uid();
        let (end, hello) = ServerEnd::accept();
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.connections.insert(
            number,
            Connection {
                stream,
                uid,
                end,
                outgoing: hello,
                active: now,
                watches: false,
                is_kept: false,
                is_answer_due: false,
                has_more: false,
                closing: false,
                is_rejected: false,
                overflowed: false,
            },
        );
        Some(number)
    }

    /// The client that makes room for the one that has just come.
    fn evicted(&self, newcomer: u32) -> Option<u32> {
        let connected = |(number, client): (&u32, &Connection)| Connected {
            number: *number,
            uid: client.uid,
            is_kept: client.watches || client.is_kept,
            active: client.active,
        };
        let all: Vec<Connected> = self.connections.iter().map(connected).collect();
        admission::evicted(&all, newcomer)
    }

    /// When the next idle client is to be disconnected.
    pub fn deadline(&self) -> Option<Duration> {
        self.connections
            .values()
            .filter_map(Connection::idle_until)
            .min()
    }

    /// Disconnects the clients that have been idle for too long.
    pub fn disconnect_idle(&mut self, now: Duration, sources: &Sources) {
        let idle: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, client)| client.idle_until().is_some_and(|until| until <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in idle {
            self.close(number, sources);
        }
    }

    /// The next request of a client, and whether it may make one that changes
    /// something. There is none while the answer to the one before waits to be made
    /// or taken.
    pub fn next_request(&mut self, number: u32, now: Duration) -> Option<(Request, bool)> {
        let client = self.connections.get_mut(&number)?;
        let request = client.next_request(now)?;
        Some((request, client.may_change()))
    }

    /// The peer is gone and can take nothing any more: what it asked for before is
    /// still done.
    pub fn hang_up(&mut self, number: u32) {
        if let Some(client) = self.connections.get_mut(&number) {
            client.outgoing.clear();
            client.is_answer_due = false;
        }
    }

    /// Puts a reply behind what waits to be sent to a client; [`Self::flush`]
    /// sends it.
    pub fn reply(&mut self, number: u32, reply: &Reply) {
        if let Some(client) = self.connections.get_mut(&number) {
            client.reply(reply);
        }
        self.bound();
    }

    /// Makes a client one that hears of changes.
    pub fn begin_watch(&mut self, number: u32) {
        if let Some(client) = self.connections.get_mut(&number) {
            client.watches = true;
            client.is_answer_due = false;
        }
    }

    /// Notes that a client has something for as long as it is connected.
    pub fn keep(&mut self, number: u32) {
        if let Some(client) = self.connections.get_mut(&number) {
            client.is_kept = true;
        }
    }

    /// Sends what waits for a client, and closes the connection at its end.
    pub fn flush(&mut self, number: u32, now: Duration, sources: &Sources) {
        let Some(client) = self.connections.get_mut(&number) else {
            return;
        };
        if client.flush(now) {
            self.close(number, sources);
            return;
        }
        // At its end of input, or while it is not read, its input says nothing new.
        let mut wanted = EpollFlags::empty();
        if client.is_read() {
            wanted |= EpollFlags::EPOLLIN;
        }
        // Its next request is there already: the loop comes back for it.
        if client.has_outgoing() || (client.has_more && !client.is_answer_due) {
            wanted |= EpollFlags::EPOLLOUT;
        }
        sources.modify(&client.stream, Source::Connection(number), wanted);
    }

    fn close(&mut self, number: u32, sources: &Sources) {
        if let Some(client) = self.connections.remove(&number) {
            sources.remove(&client.stream);
            self.closed.push(number);
            client.close();
        }
    }

    /// Disconnects those for whom the most waits, where that is too much in all.
    fn bound(&mut self) {
        let waiting = |client: &Connection| client.outgoing.len();
        while self.connections.values().map(waiting).sum::<usize>() > MOST_WAITING_IN_ALL {
            let most = self
                .connections
                .values_mut()
                .max_by_key(|client| waiting(client));
            match most {
                Some(client) => client.overflow(),
                None => return,
            }
        }
    }

    /// Sends a change to everyone who watches.
    pub fn tell_watchers(&mut self, reply: &Reply, now: Duration, sources: &Sources) {
        let Ok(frame) = ServerEnd::<Init>::reply(reply) else {
            return;
        };
        let mut told = Vec::new();
        for (number, client) in &mut self.connections {
            if client.watches {
                client.queue(&frame);
                told.push(*number);
            }
        }
        self.bound();
        for number in told {
            self.flush(number, now, sources);
        }
    }

    /// The clients whose connections have been closed since the last call.
    pub fn take_closed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.closed)
    }

    /// Whether anyone watches.
    pub fn has_watchers(&self) -> bool {
        self.connections.values().any(|client| client.watches)
    }
}

impl Connection {
    /// Whether the client may change something.
    fn may_change(&self) -> bool {
        self.uid == 0
    }

    /// Whether a request of it can be taken now.
    fn is_read(&self) -> bool {
        !self.is_rejected && !self.closing && !self.is_answer_due && self.outgoing.is_empty()
    }

    /// When it has been idle for too long; `None`: it is not idle.
    fn idle_until(&self) -> Option<Duration> {
        let may_be_silent = self.watches || self.is_kept || self.is_answer_due;
        (!may_be_silent || self.has_outgoing()).then_some(self.active + IDLE)
    }

    /// The next whole request; reads once where none is there. After garbage, the
    /// client gets one refusal and no further request is read.
    fn next_request(&mut self, now: Duration) -> Option<Request> {
        if self.is_rejected || self.is_answer_due || self.has_outgoing() {
            return None;
        }
        if let Some(request) = self.next_whole(now) {
            return Some(request);
        }
        if self.closing || self.is_rejected {
            return None;
        }
        self.read();
        self.next_whole(now)
    }

    fn next_whole(&mut self, now: Duration) -> Option<Request> {
        self.has_more = false;
        match self.end.next_request() {
            Ok(Some(request)) => {
                self.active = now;
                self.has_more = true;
                self.is_answer_due = true;
                Some(request)
            }
            Ok(None) => None,
            Err(error) => {
                self.reject(&error);
                None
            }
        }
    }

    fn read(&mut self) {
        let mut bytes = [0; 4096];
        match self.receive(&mut bytes) {
            Ok(Some(0)) => self.closing = true,
            Ok(Some(count)) => self.end.push(&bytes[..count]),
            Ok(None) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.closing = true,
        }
    }

    /// Reads; `None` where a descriptor comes along, which is left in the kernel's
    /// queue: it would be closed here, however long that takes.
    fn receive(&mut self, bytes: &mut [u8]) -> std::io::Result<Option<usize>> {
        let Some(count) = peek(&self.stream, bytes)? else {
            self.reject(&ProtocolError::Descriptor);
            return Ok(None);
        };
        if count == 0 {
            return Ok(Some(0));
        }
        self.stream.read(&mut bytes[..count]).map(Some)
    }

    /// Closes it; by a child, where something is left in its queue.
    fn close(mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let mut bytes = [0; 4096];
        for _ in 0..DRAINED {
            match peek(&self.stream, &mut bytes) {
                // Nothing more can come.
                Ok(Some(0)) => return,
                Ok(Some(count)) => {
                    if self.stream.read(&mut bytes[..count]).is_err() {
                        break;
                    }
                }
                Ok(None) | Err(_) => break,
            }
        }
        drop(Foreign::new(foreign::OF_CLIENTS, self.stream.into()));
    }

    fn reject(&mut self, error: &ProtocolError) {
        self.has_more = false;
        self.queue(&ServerEnd::<Init>::rejection(error));
        self.is_rejected = true;
        self.closing = true;
    }

    /// Puts a reply behind what waits to be sent.
    fn reply(&mut self, reply: &Reply) {
        self.is_answer_due = false;
        match ServerEnd::<Init>::reply(reply) {
            Ok(frame) => self.queue(&frame),
            Err(error) => {
                log!(Error, "a reply cannot be sent: {error}");
                self.closing = true;
            }
        }
    }

    fn queue(&mut self, frame: &[u8]) {
        if self.overflowed {
            return;
        }
        if self.outgoing.len() + frame.len() > MOST_WAITING {
            self.overflow();
        } else {
            self.outgoing.extend_from_slice(frame);
        }
    }

    fn overflow(&mut self) {
        self.outgoing = Vec::new();
        self.overflowed = true;
    }

    /// Sends what fits. Returns whether the connection is at its end.
    fn flush(&mut self, now: Duration) -> bool {
        if self.overflowed {
            return true;
        }
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => return true,
                Ok(count) => {
                    self.active = now;
                    self.outgoing.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
        self.outgoing.shrink_to(MAX_KEPT);
        self.closing && !self.is_answer_due && !self.has_more
    }

    /// Whether something waits to be sent.
    fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

/// The memory that a client's buffer keeps once everything is sent, in bytes.
const MAX_KEPT: usize = 4096;

/// Looks at what comes next, without taking it: how many bytes, or `None` where a
/// descriptor comes with them (unix(7): no room for it, so MSG_CTRUNC says so).
fn peek(stream: &UnixStream, bytes: &mut [u8]) -> std::io::Result<Option<usize>> {
    let mut buffer = [IoSliceMut::new(bytes)];
    let flags = MsgFlags::MSG_PEEK | MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_CMSG_CLOEXEC;
    match recvmsg::<()>(stream.as_raw_fd(), &mut buffer, None, flags) {
        Ok(message) if message.flags.contains(MsgFlags::MSG_CTRUNC) => Ok(None),
        Ok(message) => Ok(Some(message.bytes)),
        Err(Errno::EINTR) => Err(ErrorKind::Interrupted.into()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{ClientEnd, Refusal};
    use std::io::Read;
    use std::time::Instant;

    /// A small generator of numbers (xorshift), so that a failure repeats.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self, below: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            usize::try_from(self.0 >> 16).unwrap() % below
        }
    }

    const NOW: Duration = Duration::from_secs(1000);

    struct Server {
        clients: Clients,
        path: String,
        _folder: tempfile::TempDir,
    }

    fn server() -> Server {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket").display().to_string();
        Server {
            clients: Clients::listen(&path).unwrap(),
            path,
            _folder: folder,
        }
    }

    /// Serves one client until its connection ends; returns the requests that were
    /// understood.
    fn serve(server: &mut Server, number: u32) -> Vec<Request> {
        let mut understood = Vec::new();
        for _ in 0..100 {
            let Some(client) = server.clients.connections.get_mut(&number) else {
                break;
            };
            if let Some(request) = client.next_request(NOW) {
                client.reply(&Reply::Refused(Refusal::NotPermitted));
                understood.push(request);
            }
            if client.flush(NOW) {
                server.clients.connections.remove(&number);
            }
        }
        understood
    }

    /// A client's first bytes: hello and request.
    fn asking(request: &Request) -> Vec<u8> {
        ClientEnd::<Init>::new().request(request).unwrap()
    }

    #[test]
    fn garbage_is_refused_and_the_connection_closed() {
        let mut server = server();
        let mut client = UnixStream::connect(&server.path).unwrap();
        let number = server.clients.accept_one(NOW).unwrap();
        client.write_all(b"\x04\0\0\0what and more of it").unwrap();
        assert_eq!(serve(&mut server, number), []);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        assert!(String::from_utf8_lossy(&answer[4..]).contains("malformed"));
        assert!(server.clients.connections.get_mut(&number).is_none());
    }

    #[test]
    fn a_request_before_the_client_hangs_up_is_still_answered() {
        let mut server = server();
        let mut client = UnixStream::connect(&server.path).unwrap();
        let number = server.clients.accept_one(NOW).unwrap();
        client.write_all(&asking(&Request::Status)).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        assert_eq!(serve(&mut server, number), [Request::Status]);
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).unwrap();
        let mut end = ClientEnd::<Init>::new();
        end.push(&answer);
        assert!(end.next_reply().unwrap().is_some());
    }

    #[test]
    fn whatever_is_sent_the_server_goes_on_and_keeps_little() {
        let mut server = server();
        let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
        let mut end = ClientEnd::<Init>::new();
        let request = Request::Show {
            service: "network".to_owned(),
        };
        let first = end.request(&request).unwrap();
        let further = end.request(&request).unwrap();
        let mut understood = 0;
        for round in 0..3000 {
            let mut bytes = match round % 3 {
                0 => (0..numbers.next(300))
                    .map(|_| numbers.next(256) as u8)
                    .collect(),
                _ => [first.clone(), further.repeat(numbers.next(3))].concat(),
            };
            if round % 3 == 1 && !bytes.is_empty() {
                for _ in 0..=numbers.next(4) {
                    let at = numbers.next(bytes.len());
                    bytes[at] = numbers.next(256) as u8;
                }
            }
            bytes.truncate(numbers.next(bytes.len() + 1));
            let mut client = UnixStream::connect(&server.path).unwrap();
            let number = server.clients.accept_one(NOW).unwrap();
            client.write_all(&bytes).unwrap();
            if round % 2 == 0 {
                client.shutdown(std::net::Shutdown::Write).unwrap();
            }
            for request in serve(&mut server, number) {
                understood += 1;
                assert!(matches!(request, Request::Show { .. }), "{request:?}");
            }
            if let Some(client) = server.clients.connections.get_mut(&number) {
                assert!(client.outgoing.len() <= MOST_WAITING);
            }
            drop(client);
            // A child that another test makes may hold a copy for a moment.
            let end = Instant::now() + Duration::from_secs(60);
            while server.clients.connections.contains_key(&number) {
                serve(&mut server, number);
                assert!(Instant::now() < end, "round {round}");
            }
        }
        assert!(understood > 100, "{understood} requests");
    }

    #[test]
    fn a_watcher_that_does_not_read_is_disconnected() {
        let mut server = server();
        let sources = Sources::new().unwrap();
        let _client = UnixStream::connect(&server.path).unwrap();
        let number = server.clients.accept_one(NOW).unwrap();
        server.clients.begin_watch(number);
        let message = "x".repeat(1 << 20);
        for _ in 0..20 {
            let message = message.clone();
            let reply = Reply::Refused(Refusal::Failed { message });
            server.clients.tell_watchers(&reply, NOW, &sources);
        }
        assert!(!server.clients.has_watchers());
        assert!(server.clients.connections.is_empty());
    }

    /// Hostile: A user opens more connections to the control socket than there is room for, and says nothing. Outcome: Its oldest ones are closed; whoever comes gets in.
    #[test]
    fn whoever_comes_gets_in_and_the_longest_idle_goes() {
        let mut server = server();
        let sources = Sources::new().unwrap();
        let mut clients = Vec::new();
        for number in 0..MOST + 3 {
            clients.push(UnixStream::connect(&server.path).unwrap());
            let now = NOW + Duration::from_secs(number as u64);
            server.clients.accept(now, &sources);
        }
        let kept: Vec<u32> = server.clients.connections.keys().copied().collect();
        let newest: Vec<u32> = (3..u32::try_from(MOST).unwrap() + 3).collect();
        assert_eq!(kept, newest);
        assert_eq!(server.clients.take_closed(), [0, 1, 2]);
    }

    /// Hostile: A client of the control socket says nothing, or takes nothing of the answer. Outcome: It is disconnected after a minute.
    #[test]
    fn who_says_or_takes_nothing_is_disconnected_and_who_waits_is_not() {
        let mut server = server();
        let sources = Sources::new().unwrap();
        let clients: Vec<UnixStream> = (0..4)
            .map(|_| UnixStream::connect(&server.path).unwrap())
            .collect();
        server.clients.accept(NOW, &sources);
        server.clients.begin_watch(1);
        server.clients.keep(2);
        // It waits for its answer.
        (&clients[3]).write_all(&asking(&Request::Status)).unwrap();
        assert!(server.clients.next_request(3, NOW).is_some());
        assert_eq!(server.clients.deadline(), Some(NOW + IDLE));
        server.clients.disconnect_idle(NOW + IDLE, &sources);
        let kept: Vec<u32> = server.clients.connections.keys().copied().collect();
        assert_eq!(kept, [1, 2, 3]);
        // A watcher that takes nothing of what waits for it is not kept.
        let watcher = server.clients.connections.get_mut(&1).unwrap();
        watcher.outgoing.push(0);
        server.clients.disconnect_idle(NOW + IDLE, &sources);
        assert_eq!(server.clients.take_closed(), [0, 1]);
    }

    /// Hostile: A client sends a socket that lingers over the control socket. Outcome: Its connection is rejected, and PID 1 does not wait for the socket.
    #[test]
    fn a_descriptor_ends_the_connection_and_is_not_received() {
        let mut server = server();
        let sources = Sources::new().unwrap();
        let client = UnixStream::connect(&server.path).unwrap();
        server.clients.accept(NOW, &sources);
        let (sent, mut other) = UnixStream::pair().unwrap();
        nix::sys::socket::sendmsg::<()>(
            client.as_raw_fd(),
            &[std::io::IoSlice::new(&asking(&Request::Status))],
            &[nix::sys::socket::ControlMessage::ScmRights(&[
                sent.as_raw_fd()
            ])],
            MsgFlags::empty(),
            None,
        )
        .unwrap();
        drop(sent);
        assert!(server.clients.next_request(0, NOW).is_none());
        server.clients.flush(0, NOW, &sources);
        assert_eq!(server.clients.take_closed(), [0]);
        let mut answer = Vec::new();
        let _ = (&client).read_to_end(&mut answer);
        assert!(String::from_utf8_lossy(&answer).contains("malformed"));
        // It is still open, in the queue that a child is to close.
        other.set_nonblocking(true).unwrap();
        assert!(other.read(&mut [0]).is_err());
        assert!(foreign::is_waiting());
        foreign::close_dropped(&mut crate::children::Children::default());
        other.set_nonblocking(false).unwrap();
        assert_eq!(other.read(&mut [0]).unwrap(), 0);
    }
}
