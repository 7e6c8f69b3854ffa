//! A blocking client of the updater's socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use control::{FrameBuffer, FrameError, MAX_REPLY, MAX_REQUEST, encode};

use crate::{Progress, Refusal, Reply, Request};

/// How long the updater may be silent. It tells its progress each second, so a
/// longer silence means that it is stuck, or waits for a disk that does not
/// answer.
const SILENCE: Duration = Duration::from_secs(60);

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
    /// The connection broke, or nothing came for a minute.
    Connection(io::Error),
    /// The answer was not a frame.
    Frame(FrameError),
    /// The answer was not a reply that this client knows.
    Malformed(serde_json::Error),
    /// The updater closed the connection instead of answering.
    Closed,
    /// The updater refused the request.
    Refused(Refusal),
}

impl std::fmt::Display for ClientError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect { path, .. } => write!(
                f,
                "cannot reach the updater at {path}; `wherry service show updater` says whether it runs"
            ),
            Self::Connection(_) => write!(f, "the connection to the updater failed"),
            Self::Frame(_) => write!(f, "the updater's answer is not a frame"),
            Self::Malformed(_) => write!(f, "the updater's answer cannot be read"),
            Self::Closed => write!(
                f,
                "the updater ended before it answered; `wherry service logs updater` may say why"
            ),
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

/// A connection to the updater.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    buffer: FrameBuffer,
}

impl Client {
    /// Connects to the updater's socket at `path`, usually [`crate::SOCKET`].
    ///
    /// # Errors
    /// Nobody listens there.
    pub fn connect(path: impl AsRef<Path>) -> Result<Self, ClientError> {
        let path = path.as_ref();
        let stream = UnixStream::connect(path).map_err(|source| ClientError::Connect {
            path: path.display().to_string(),
            source,
        })?;
        stream
            .set_read_timeout(Some(SILENCE))
            .and_then(|()| stream.set_write_timeout(Some(SILENCE)))
            .map_err(ClientError::Connection)?;
        Ok(Self {
            stream,
            buffer: FrameBuffer::new(MAX_REPLY),
        })
    }

    /// Asks and waits for the answer; `progress` is told how far it has come
    /// until then.
    ///
    /// # Errors
    /// [`ClientError::Refused`] where the updater refused; else what broke.
    pub fn ask(
        &mut self,
        request: &Request,
        mut progress: impl FnMut(&Progress),
    ) -> Result<Reply, ClientError> {
        let frame = encode(request, MAX_REQUEST).map_err(ClientError::Frame)?;
        self.stream
            .write_all(&frame)
            .map_err(ClientError::Connection)?;
        loop {
            match self.receive()? {
                Reply::Progress(news) => progress(&news),
                Reply::Refused(refusal) => return Err(ClientError::Refused(refusal)),
                reply => return Ok(reply),
            }
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
