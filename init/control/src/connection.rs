//! A blocking client of any protocol.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::{ClientEnd, FrameError, Protocol, ProtocolError, Server};

/// Why a request was not answered as hoped. `R` is the protocol's refusal.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError<R> {
    /// The socket could not be reached.
    #[error("cannot reach {} at {path}; {}", server.name, server.unreachable)]
    Connect {
        /// Who listens there.
        server: Server,
        /// The socket's path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or no answer came within the limit.
    #[error("the connection to {} failed", server.name)]
    Connection {
        /// To whom.
        server: Server,
        /// What the system said.
        source: io::Error,
    },
    /// The request is too long to be sent.
    #[error("the request cannot be sent")]
    Request(#[source] FrameError),
    /// The answer cannot be used, or the server speaks another version.
    #[error("{} does not answer as this program understands", server.name)]
    Protocol {
        /// Who answered.
        server: Server,
        /// What was wrong.
        source: ProtocolError,
    },
    /// The server closed the connection instead of answering.
    #[error("{} closed the connection without an answer; {}", server.name, server.closed)]
    Closed {
        /// Who.
        server: Server,
    },
    /// The server refused the request.
    #[error("{0}")]
    Refused(R),
}

/// A connection to a server.
#[derive(Debug)]
pub struct Connection<P> {
    stream: UnixStream,
    end: ClientEnd<P>,
}

/// To wait for an answer among other things.
impl<P> AsFd for Connection<P> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl<P: Protocol> Connection<P> {
    /// Connects to the server's socket at `path`.
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ConnectionError<P::Refusal>> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path).map_err(|source| ConnectionError::Connect {
            server: P::SERVER,
            path: path.display().to_string(),
            source,
        })?;
        let connection = Self {
            stream,
            end: ClientEnd::new(),
        };
        connection
            .stream
            .set_write_timeout(Some(P::ANSWER_LIMIT))
            .map_err(broken::<P>)?;
        Ok(connection)
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`ConnectionError::Refused`] where the server refused; else what broke.
    pub fn ask(&mut self, request: &P::Request) -> Result<P::Reply, ConnectionError<P::Refusal>> {
        self.ask_with_progress(request, |_| ())
    }

    /// Asks and waits for the answer; `progress` gets the replies before it that
    /// tell of progress.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn ask_with_progress(
        &mut self,
        request: &P::Request,
        mut progress: impl FnMut(&P::Reply),
    ) -> Result<P::Reply, ConnectionError<P::Refusal>> {
        if let Err(error) = self.send(request) {
            // A server of another version may have closed its side already, and
            // has said in its hello why.
            return match self.receive(Some(P::ANSWER_LIMIT)) {
                Err(reason @ ConnectionError::Protocol { .. }) => Err(reason),
                Ok(_) | Err(_) => Err(error),
            };
        }
        loop {
            let reply = self.receive(Some(P::ANSWER_LIMIT))?;
            if !P::is_progress(&reply) {
                return Ok(reply);
            }
            progress(&reply);
        }
    }

    /// Asks without waiting for the answer.
    ///
    /// # Errors
    /// The connection broke.
    pub fn send(&mut self, request: &P::Request) -> Result<(), ConnectionError<P::Refusal>> {
        let bytes = self
            .end
            .request(request)
            .map_err(ConnectionError::Request)?;
        self.stream.write_all(&bytes).map_err(broken::<P>)
    }

    /// The next reply; waits for `limit`, without one for ever.
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn receive(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<P::Reply, ConnectionError<P::Refusal>> {
        self.stream.set_read_timeout(limit).map_err(broken::<P>)?;
        loop {
            let next = self.end.next_reply();
            let next = next.map_err(|source| ConnectionError::Protocol {
                server: P::SERVER,
                source,
            })?;
            if let Some(reply) = next {
                return P::accepted(reply).map_err(ConnectionError::Refused);
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ConnectionError::Closed { server: P::SERVER }),
                Ok(count) => self.end.push(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(broken::<P>(error)),
            }
        }
    }
}

fn broken<P: Protocol>(source: io::Error) -> ConnectionError<P::Refusal> {
    ConnectionError::Connection {
        server: P::SERVER,
        source,
    }
}
