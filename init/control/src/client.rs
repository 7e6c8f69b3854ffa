//! A blocking client of the control socket.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use crate::{FrameBuffer, FrameError, MAX_REPLY, MAX_REQUEST, Refusal, Reply, Request, encode};

/// How long PID 1 may take for an answer. It never blocks, so a longer silence
/// means that it is stuck.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Why a request was not answered as hoped.
#[derive(Debug)]
pub enum ClientError {
    /// The socket could not be reached.
    Connect {
        /// The socket's path.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// The connection broke, or no answer came within ten seconds.
    Connection(io::Error),
    /// The answer was not a frame.
    Frame(FrameError),
    /// The answer was not a reply that this client knows.
    Malformed(serde_json::Error),
    /// PID 1 closed the connection instead of answering.
    Closed,
    /// PID 1 refused the request.
    Refused(Refusal),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect { path, .. } => write!(
                f,
                "cannot reach PID 1 at {path}; is this a Wherry machine, and is the socket mounted here?"
            ),
            Self::Connection(_) => write!(f, "the connection to PID 1 failed"),
            Self::Frame(_) => write!(f, "PID 1's answer is not a frame"),
            Self::Malformed(_) => write!(f, "PID 1's answer cannot be read"),
            Self::Closed => write!(f, "PID 1 closed the connection without an answer"),
            Self::Refused(refusal) => refusal.fmt(f),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Connect { source, .. } | Self::Connection(source) => Some(source),
            Self::Frame(source) => Some(source),
            Self::Malformed(source) => Some(source),
            Self::Closed | Self::Refused(_) => None,
        }
    }
}

/// A connection to PID 1.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    buffer: FrameBuffer,
}

/// To wait for a change among other things; [`Client::next_change`] then takes
/// all that have come.
impl AsFd for Client {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}

impl Client {
    /// Connects to the control socket at `path`, usually [`crate::SOCKET`].
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path).map_err(|source| ClientError::Connect {
            path: path.display().to_string(),
            source,
        })?;
        stream
            .set_read_timeout(Some(ANSWER_LIMIT))
            .and_then(|()| stream.set_write_timeout(Some(ANSWER_LIMIT)))
            .map_err(ClientError::Connection)?;
        Ok(Self {
            stream,
            buffer: FrameBuffer::new(MAX_REPLY),
        })
    }

    /// Asks and waits for the answer.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where PID 1 refused; else what broke.
    pub fn ask(&mut self, request: &Request) -> Result<Reply, ClientError> {
        let frame = encode(request, MAX_REQUEST).map_err(ClientError::Frame)?;
        self.stream
            .write_all(&frame)
            .map_err(ClientError::Connection)?;
        match self.receive()? {
            Reply::Refused(refusal) => Err(ClientError::Refused(refusal)),
            reply => Ok(reply),
        }
    }

    /// Turns the connection into a stream of changes, read by
    /// [`Self::next_change`].
    ///
    /// # Errors
    /// What broke on the way.
    pub fn watch(&mut self) -> Result<(), ClientError> {
        let frame = encode(&Request::Watch, MAX_REQUEST).map_err(ClientError::Frame)?;
        self.stream
            .write_all(&frame)
            .map_err(ClientError::Connection)
    }

    /// The next change of a watched connection, or `None` when none came
    /// within `limit` (`None`: waits without end).
    ///
    /// # Errors
    /// As [`Self::ask`].
    pub fn next_change(
        &mut self,
        limit: Option<Duration>,
    ) -> Result<Option<crate::Service>, ClientError> {
        self.stream
            .set_read_timeout(limit)
            .map_err(ClientError::Connection)?;
        match self.receive() {
            Ok(Reply::Changed(service)) => Ok(Some(service)),
            Ok(Reply::Refused(refusal)) => Err(ClientError::Refused(refusal)),
            Ok(_) => Err(ClientError::Closed),
            Err(ClientError::Connection(error))
                if matches!(
                    error.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    fn receive(&mut self) -> Result<Reply, ClientError> {
        loop {
            if let Some(json) = self.buffer.next_frame().map_err(ClientError::Frame)? {
                return serde_json::from_slice(&json).map_err(ClientError::Malformed);
            }
            let mut bytes = [0; 16 * 1024];
            match self.stream.read(&mut bytes) {
                Ok(0) => return Err(ClientError::Closed),
                Ok(count) => self.buffer.push(&bytes[..count]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(ClientError::Connection(error)),
            }
        }
    }
}
