//! The control socket and its clients: bytes in and out, never waiting.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use control::{Init, MAX_REPLY, ProtocolError, Reply, Request, ServerEnd};
use nix::sys::epoll::EpollFlags;
use nix::sys::socket::{getsockopt, sockopt};

use crate::kernel_log::log;
use crate::source::{Source, Sources};

/// The most connections at one time. More wait to be accepted.
const MOST: usize = 64;

/// The most bytes that may wait for one client: a watcher that does not read
/// is disconnected instead of growing PID 1.
const MOST_WAITING: usize = 2 * MAX_REPLY;

/// One client.
#[derive(Debug)]
struct Connection {
    stream: UnixStream,
    uid: u32,
    end: ServerEnd<Init>,
    outgoing: Vec<u8>,
    /// Whether it wants to hear of changes.
    watches: bool,
    /// Whether it is closed once everything is sent.
    closing: bool,
    /// Whether it sent what cannot be used: nothing more is read of it.
    is_rejected: bool,
    /// Whether it did not read for so long that it is closed at once.
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

    fn has_room(&self) -> bool {
        self.connections.len() < MOST
    }

    /// Takes the clients that wait to be accepted, as far as there is room.
    pub fn accept(&mut self, sources: &Sources) {
        while let Some(number) = self.accept_one() {
            let watched = match self.connections.get(&number) {
                Some(client) => {
                    let source = Source::Connection(number);
                    sources.add(&client.stream, source, EpollFlags::EPOLLIN)
                }
                None => continue,
            };
            if let Err(error) = watched {
                log!(Error, "{error}");
                self.connections.remove(&number);
                continue;
            }
            // The first frame, which is the same for all.
            self.flush(number, sources);
        }
        if !self.has_room() {
            // The others wait in the kernel until one goes.
            sources.modify(&self.listener, Source::Listener, EpollFlags::empty());
        }
    }

    fn accept_one(&mut self) -> Option<u32> {
        if !self.has_room() {
            return None;
        }
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
                watches: false,
                closing: false,
                is_rejected: false,
                overflowed: false,
            },
        );
        Some(number)
    }

    /// The requests of a client that are whole by now, and whether it may make
    /// those that change something.
    pub fn read(&mut self, number: u32) -> (Vec<Request>, bool) {
        match self.connections.get_mut(&number) {
            Some(client) => (client.read(), client.may_change()),
            None => (Vec::new(), false),
        }
    }

    /// Puts a reply behind what waits to be sent to a client; [`Self::flush`]
    /// sends it.
    pub fn reply(&mut self, number: u32, reply: &Reply) {
        if let Some(client) = self.connections.get_mut(&number) {
            client.reply(reply);
        }
    }

    /// Makes a client one that hears of changes.
    pub fn begin_watch(&mut self, number: u32) {
        if let Some(client) = self.connections.get_mut(&number) {
            client.watches = true;
        }
    }

    /// Sends what waits for a client, and closes the connection at its end.
    pub fn flush(&mut self, number: u32, sources: &Sources) {
        let Some(client) = self.connections.get_mut(&number) else {
            return;
        };
        if client.flush() {
            sources.remove(&client.stream);
            self.connections.remove(&number);
            self.closed.push(number);
            sources.modify(&self.listener, Source::Listener, EpollFlags::EPOLLIN);
            return;
        }
        let mut wanted = EpollFlags::EPOLLIN;
        if client.has_outgoing() {
            wanted |= EpollFlags::EPOLLOUT;
        }
        sources.modify(&client.stream, Source::Connection(number), wanted);
    }

    /// Sends a change to everyone who watches.
    pub fn tell_watchers(&mut self, reply: &Reply, sources: &Sources) {
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
        for number in told {
            self.flush(number, sources);
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

    /// Reads once and returns the requests that are whole by now. After
    /// garbage, the client gets one refusal and no further request is read.
    fn read(&mut self) -> Vec<Request> {
        let mut bytes = [0; 4096];
        let mut requests = Vec::new();
        match self.stream.read(&mut bytes) {
            Ok(0) => self.closing = true,
            Ok(count) if !self.closing => self.end.push(&bytes[..count]),
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.closing = true,
        }
        while !self.is_rejected {
            match self.end.next_request() {
                Ok(Some(request)) => requests.push(request),
                Ok(None) => break,
                Err(error) => self.reject(&error),
            }
        }
        requests
    }

    fn reject(&mut self, error: &ProtocolError) {
        self.queue(&ServerEnd::<Init>::rejection(error));
        self.is_rejected = true;
        self.closing = true;
    }

    /// Puts a reply behind what waits to be sent.
    fn reply(&mut self, reply: &Reply) {
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
            self.outgoing = Vec::new();
            self.overflowed = true;
        } else {
            self.outgoing.extend_from_slice(frame);
        }
    }

    /// Sends what fits. Returns whether the connection is at its end.
    fn flush(&mut self) -> bool {
        if self.overflowed {
            return true;
        }
        while !self.outgoing.is_empty() {
            match self.stream.write(&self.outgoing) {
                Ok(0) => return true,
                Ok(count) => {
                    self.outgoing.drain(..count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
                Err(_) => return true,
            }
        }
        self.closing
    }

    /// Whether something waits to be sent.
    fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{ClientEnd, Refusal};
    use std::io::Read;

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
            for request in client.read() {
                client.reply(&Reply::Refused(Refusal::NotPermitted));
                understood.push(request);
            }
            if client.flush() {
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
        let number = server.clients.accept_one().unwrap();
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
        let number = server.clients.accept_one().unwrap();
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
            let number = server.clients.accept_one().unwrap();
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
            serve(&mut server, number);
            assert!(
                server.clients.connections.get_mut(&number).is_none(),
                "round {round}"
            );
        }
        assert!(understood > 100, "{understood} requests");
    }

    #[test]
    fn a_watcher_that_does_not_read_is_disconnected() {
        let mut server = server();
        let sources = Sources::new().unwrap();
        let _client = UnixStream::connect(&server.path).unwrap();
        let number = server.clients.accept_one().unwrap();
        server.clients.begin_watch(number);
        let message = "x".repeat(1 << 20);
        for _ in 0..20 {
            let message = message.clone();
            let reply = Reply::Refused(Refusal::Failed { message });
            server.clients.tell_watchers(&reply, &sources);
        }
        assert!(!server.clients.has_watchers());
        assert!(server.clients.connections.is_empty());
    }

    #[test]
    fn more_clients_than_there_is_room_for_wait() {
        let mut server = server();
        let clients: Vec<UnixStream> = (0..MOST + 3)
            .map(|_| UnixStream::connect(&server.path).unwrap())
            .collect();
        let mut taken = Vec::new();
        while let Some(number) = server.clients.accept_one() {
            taken.push(number);
        }
        assert_eq!(taken.len(), MOST);
        server.clients.connections.remove(&taken[0]);
        assert!(server.clients.accept_one().is_some());
        drop(clients);
    }
}
