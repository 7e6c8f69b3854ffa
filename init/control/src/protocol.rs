//! What two programs must agree on before they talk: name and version.
//!
//! The first frame in each direction is a [`Hello`]. The server sends its own as
//! soon as it has accepted the connection; the client sends its own before its
//! first request, in the same write. A server that reads another name or version
//! closes the connection without reading a request; the client has the server's
//! hello by then, and can say which two versions met.
//!
//! [`ClientEnd`] and [`ServerEnd`] are the two ends of a connection without its
//! socket: bytes in, messages out, and the other way round. They serve blocking,
//! polling and asynchronous programs alike.

use std::marker::PhantomData;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{FrameBuffer, FrameError, MAX_REPLY, MAX_REQUEST, encode};

/// One protocol: what a server is asked, and what it answers.
pub trait Protocol {
    /// What a client asks.
    type Request: Serialize + DeserializeOwned;
    /// What the server answers.
    type Reply: Serialize + DeserializeOwned;
    /// Why the server refuses.
    type Refusal: Reason;

    /// The protocol's name in the [`Hello`].
    const NAME: &'static str;
    /// Its version: up by one when a program that speaks it would misread
    /// one that does not.
    const VERSION: u32;
    /// The server, as errors name it.
    const SERVER: Server;
    /// How long the server may be silent before a client gives it up.
    const ANSWER_LIMIT: Duration;

    /// Whether the request changes nothing, so that any user may make it.
    fn is_read_only(request: &Self::Request) -> bool;

    /// Whether the reply tells of progress, and another one follows.
    fn is_progress(_reply: &Self::Reply) -> bool {
        false
    }

    /// The refusal of a request that cannot be read.
    fn malformed(message: String) -> Self::Reply;

    /// The refusal of a request that the peer's user may not make.
    fn not_permitted() -> Self::Reply;

    /// The reply, or why it refuses.
    fn accepted(reply: Self::Reply) -> Result<Self::Reply, Self::Refusal>;
}

/// Why a server refuses, as one sentence.
pub trait Reason: std::fmt::Display + std::fmt::Debug {
    /// Whether the request was tried and failed, instead of being turned down.
    fn was_tried(&self) -> bool {
        false
    }
}

/// How errors of a client speak of its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Server {
    /// Its name in a sentence: `PID 1`.
    pub name: &'static str,
    /// What to do where nobody listens, after a semicolon.
    pub unreachable: &'static str,
    /// What to do where it closed the connection, after a semicolon.
    pub closed: &'static str,
}

/// The first frame in each direction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// [`Protocol::NAME`].
    pub protocol: String,
    /// [`Protocol::VERSION`].
    pub version: u32,
}

impl Hello {
    /// What a program says that speaks `P`.
    pub fn of<P: Protocol>() -> Self {
        Self {
            protocol: P::NAME.to_owned(),
            version: P::VERSION,
        }
    }

    fn frame<P: Protocol>() -> Result<Vec<u8>, FrameError> {
        encode(&Self::of::<P>(), MAX_REQUEST)
    }

    /// Reads the other side's first frame.
    fn check<P: Protocol>(json: &[u8]) -> Result<(), ProtocolError> {
        let theirs: Self =
            serde_json::from_slice(json).map_err(|source| ProtocolError::NoHello { source })?;
        if theirs == Self::of::<P>() {
            Ok(())
        } else {
            Err(ProtocolError::Version {
                ours: Self::of::<P>(),
                theirs,
            })
        }
    }
}

impl std::fmt::Display for Hello {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.protocol, self.version)
    }
}

/// Why what the other side sent cannot be used. Nothing after it can be read.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// It is not a frame.
    #[error("what came is not a frame")]
    Frame(#[from] FrameError),
    /// Its first frame names neither protocol nor version.
    #[error("the first frame names no protocol and version")]
    NoHello {
        /// What was wrong with it.
        source: serde_json::Error,
    },
    /// It speaks another protocol or version.
    #[error("it speaks {theirs} and this program {ours}")]
    Version {
        /// What this program speaks.
        ours: Hello,
        /// What the other one speaks.
        theirs: Hello,
    },
    /// A frame is not a message of the protocol.
    #[error("a message cannot be read")]
    Message(#[source] serde_json::Error),
    /// A descriptor came with it.
    #[error("a descriptor came with it; none is taken")]
    Descriptor,
}

/// Bytes that came, of which the first frame is the hello.
#[derive(Debug)]
struct Incoming<P> {
    buffer: FrameBuffer,
    is_greeted: bool,
    protocol: PhantomData<P>,
}

impl<P: Protocol> Incoming<P> {
    fn new(limit: usize) -> Self {
        Self {
            buffer: FrameBuffer::new(limit),
            is_greeted: false,
            protocol: PhantomData,
        }
    }

    fn next<T: DeserializeOwned>(&mut self) -> Result<Option<T>, ProtocolError> {
        if !self.is_greeted {
            let Some(hello) = self.buffer.next_frame()? else {
                return Ok(None);
            };
            Hello::check::<P>(&hello)?;
            self.is_greeted = true;
        }
        match self.buffer.next_frame()? {
            Some(json) => serde_json::from_slice(&json)
                .map(Some)
                .map_err(ProtocolError::Message),
            None => Ok(None),
        }
    }
}

/// The client's end of a connection.
#[derive(Debug)]
pub struct ClientEnd<P> {
    incoming: Incoming<P>,
    has_said_hello: bool,
}

impl<P: Protocol> ClientEnd<P> {
    /// The end of a fresh connection.
    pub fn new() -> Self {
        Self {
            incoming: Incoming::new(MAX_REPLY),
            has_said_hello: false,
        }
    }

    /// The bytes that ask for `request`, the hello before the first.
    ///
    /// # Errors
    /// The request is too long or cannot be written.
    pub fn request(&mut self, request: &P::Request) -> Result<Vec<u8>, FrameError> {
        let frame = encode(request, MAX_REQUEST)?;
        if self.has_said_hello {
            return Ok(frame);
        }
        self.has_said_hello = true;
        let mut bytes = Hello::frame::<P>()?;
        bytes.extend(frame);
        Ok(bytes)
    }

    /// Takes what came from the server.
    pub fn push(&mut self, bytes: &[u8]) {
        self.incoming.buffer.push(bytes);
    }

    /// The next reply, or `None` until more bytes come.
    ///
    /// # Errors
    /// What came cannot be used: the connection is to be closed.
    pub fn next_reply(&mut self) -> Result<Option<P::Reply>, ProtocolError> {
        self.incoming.next()
    }
}

impl<P: Protocol> Default for ClientEnd<P> {
    fn default() -> Self {
        Self::new()
    }
}

/// The server's end of a connection.
#[derive(Debug)]
pub struct ServerEnd<P> {
    incoming: Incoming<P>,
}

impl<P: Protocol> ServerEnd<P> {
    /// The end of a connection that was just accepted, and the bytes to send at
    /// once.
    pub fn accept() -> (Self, Vec<u8>) {
        let end = Self {
            incoming: Incoming::new(MAX_REQUEST),
        };
        // A name and a number are always written.
        (end, Hello::frame::<P>().unwrap_or_default())
    }

    /// Takes what came from the client.
    pub fn push(&mut self, bytes: &[u8]) {
        self.incoming.buffer.push(bytes);
    }

    /// The next request, or `None` until more bytes come.
    ///
    /// # Errors
    /// What came cannot be used: the connection is to be closed, after the
    /// bytes of [`Self::rejection`].
    pub fn next_request(&mut self) -> Result<Option<P::Request>, ProtocolError> {
        self.incoming.next()
    }

    /// The bytes of a reply.
    ///
    /// # Errors
    /// The reply is too long or cannot be written.
    pub fn reply(reply: &P::Reply) -> Result<Vec<u8>, FrameError> {
        encode(reply, MAX_REPLY)
    }

    /// The last bytes for a client that sent what cannot be used. A client of
    /// another version gets none: it would misread them, and has the hello.
    pub fn rejection(error: &ProtocolError) -> Vec<u8> {
        let message = match error {
            ProtocolError::Version { .. } => return Vec::new(),
            ProtocolError::Frame(source) => source.to_string(),
            ProtocolError::Descriptor => error.to_string(),
            ProtocolError::NoHello { source } | ProtocolError::Message(source) => {
                format!("{error}: {source}")
            }
        };
        Self::reply(&P::malformed(message)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Init, Reply, Request};

    /// The same protocol, one version later.
    struct Later;

    impl Protocol for Later {
        type Request = Request;
        type Reply = Reply;
        type Refusal = crate::Refusal;
        const NAME: &'static str = Init::NAME;
        const VERSION: u32 = Init::VERSION + 1;
        const SERVER: Server = Init::SERVER;
        const ANSWER_LIMIT: Duration = Init::ANSWER_LIMIT;
        fn is_read_only(request: &Request) -> bool {
            Init::is_read_only(request)
        }
        fn malformed(message: String) -> Reply {
            Init::malformed(message)
        }
        fn not_permitted() -> Reply {
            Init::not_permitted()
        }
        fn accepted(reply: Reply) -> Result<Reply, crate::Refusal> {
            Init::accepted(reply)
        }
    }

    #[test]
    fn a_request_and_its_reply_pass_with_one_hello_each_way() {
        let (mut server, hello) = ServerEnd::<Init>::accept();
        let mut client = ClientEnd::<Init>::new();
        client.push(&hello);
        for _ in 0..2 {
            server.push(&client.request(&Request::Status).unwrap());
            assert_eq!(server.next_request().unwrap(), Some(Request::Status));
            assert_eq!(server.next_request().unwrap(), None);
            let done = Reply::Done(crate::Outcome::default());
            client.push(&ServerEnd::<Init>::reply(&done).unwrap());
            assert_eq!(client.next_reply().unwrap(), Some(done));
            assert_eq!(client.next_reply().unwrap(), None);
        }
    }

    #[test]
    fn another_version_is_named_by_both_sides_and_no_request_is_read() {
        let (mut server, hello) = ServerEnd::<Later>::accept();
        let mut client = ClientEnd::<Init>::new();
        server.push(&client.request(&Request::Poweroff).unwrap());
        let error = server.next_request().unwrap_err();
        assert!(ServerEnd::<Later>::rejection(&error).is_empty());
        client.push(&hello);
        let error = client.next_reply().unwrap_err().to_string();
        assert_eq!(error, "it speaks init 2 and this program init 1");
    }

    #[test]
    fn a_request_without_a_hello_is_rejected_with_a_reason() {
        let (mut server, hello) = ServerEnd::<Init>::accept();
        server.push(&encode(&Request::Poweroff, MAX_REQUEST).unwrap());
        let error = server.next_request().unwrap_err();
        let mut client = ClientEnd::<Init>::new();
        client.push(&hello);
        client.push(&ServerEnd::<Init>::rejection(&error));
        let Some(Reply::Refused(refusal)) = client.next_reply().unwrap() else {
            panic!("it was not refused");
        };
        assert!(refusal.to_string().contains("first frame"), "{refusal}");
    }
}
