//! The control socket and its connections: bytes in and out, never waiting.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};

use control::{FrameBuffer, MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request, encode};
use nix::sys::socket::{getsockopt, sockopt};

use crate::kernel_log::log;

/// The most connections at one time. More wait to be accepted.
const MOST: usize = 64;

/// The most bytes that may wait for one client: a watcher that does not read
/// is let go instead of growing PID 1.
const MOST_WAITING: usize = 2 * MAX_REPLY;

/// One client.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    uid: u32,
    incoming: FrameBuffer,
    outgoing: Vec<u8>,
    /// Whether it wants to hear of changes.
    pub watches: bool,
    /// Whether it is closed once everything is sent.
    closing: bool,
}

/// The listening socket and all clients.
#[derive(Debug)]
pub struct Connections {
    listener: UnixListener,
    clients: BTreeMap<u32, Connection>,
    next: u32,
}

impl Connections {
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
            clients: BTreeMap::new(),
            next: 0,
        })
    }

    /// The listening socket.
    pub fn listener(&self) -> &UnixListener {
        &self.listener
    }

    /// Whether more clients may be taken.
    pub fn has_room(&self) -> bool {
        self.clients.len() < MOST
    }

    /// Takes one client that waits; `None` when there is none.
    pub fn accept(&mut self) -> Option<u32> {
        if !self.has_room() {
            return None;
        }
        let (stream, _) = self.listener.accept().ok()?;
        stream.set_nonblocking(true).ok()?;
        let uid = getsockopt(&stream, sockopt::PeerCredentials).ok()?.uid();
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.clients.insert(
            number,
            Connection {
                stream,
                uid,
                incoming: FrameBuffer::new(MAX_REQUEST),
                outgoing: Vec::new(),
                watches: false,
                closing: false,
            },
        );
        Some(number)
    }

    /// One client.
    pub fn get_mut(&mut self, number: u32) -> Option<&mut Connection> {
        self.clients.get_mut(&number)
    }

    /// Lets a client go.
    pub fn close(&mut self, number: u32) {
        self.clients.remove(&number);
    }

    /// Sends a change to everyone who watches; returns those clients.
    pub fn tell_watchers(&mut self, reply: &Reply) -> Vec<u32> {
        let Ok(frame) = encode(reply, MAX_REPLY) else {
            return Vec::new();
        };
        let mut told = Vec::new();
        for (number, client) in &mut self.clients {
            if client.watches {
                client.queue(&frame);
                told.push(*number);
            }
        }
        told
    }

    /// Whether anyone watches.
    pub fn has_watchers(&self) -> bool {
        self.clients.values().any(|client| client.watches)
    }
}

impl Connection {
    /// The socket, to be watched.
    pub fn stream(&self) -> &UnixStream {
        &self.stream
    }

    /// Whether the client may change something.
    pub fn may_change(&self) -> bool {
        self.uid == 0
    }

    /// Reads once and returns the requests that are whole by now. After
    /// garbage, the client gets one refusal and no further request is read.
    pub fn read(&mut self) -> Vec<Request> {
        let mut bytes = [0; 4096];
        let mut requests = Vec::new();
        match self.stream.read(&mut bytes) {
            Ok(0) => self.closing = true,
            Ok(count) if !self.closing => self.incoming.push(&bytes[..count]),
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(_) => self.closing = true,
        }
        loop {
            let frame = match self.incoming.next_frame() {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(error) => {
                    self.refuse_and_close(error.to_string());
                    break;
                }
            };
            match serde_json::from_slice(&frame) {
                Ok(request) => requests.push(request),
                Err(error) => {
                    self.refuse_and_close(error.to_string());
                    break;
                }
            }
        }
        requests
    }

    fn refuse_and_close(&mut self, message: String) {
        self.reply(&Reply::Refused(Refusal::Malformed { message }));
        self.closing = true;
        self.incoming = FrameBuffer::new(MAX_REQUEST);
    }

    /// Puts a reply behind what waits to be sent.
    pub fn reply(&mut self, reply: &Reply) {
        match encode(reply, MAX_REPLY) {
            Ok(frame) => self.queue(&frame),
            Err(error) => {
                log!(Error, "a reply cannot be sent: {error}");
                self.closing = true;
            }
        }
    }

    fn queue(&mut self, frame: &[u8]) {
        if self.outgoing.len() + frame.len() > MOST_WAITING {
            self.outgoing.clear();
            self.closing = true;
        } else {
            self.outgoing.extend_from_slice(frame);
        }
    }

    /// Sends what fits. Returns whether the client is done with.
    pub fn flush(&mut self) -> bool {
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
    pub fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }
}
