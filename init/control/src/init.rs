//! PID 1's protocol.

use std::io;
use std::time::Duration;

use crate::{
    Connection, ConnectionError, Protocol, Reason, Refusal, Reply, Request, Server, Service,
};

/// What PID 1 speaks on its control socket.
#[derive(Debug)]
pub enum Init {}

impl Protocol for Init {
    type Request = Request;
    type Reply = Reply;
    type Refusal = Refusal;

    const NAME: &'static str = "init";
    const VERSION: u32 = 1;
    const SERVER: Server = Server {
        name: "PID 1",
        unreachable: "is this a Wherry machine, and is the socket mounted here?",
        closed: "`wherry logs -s init` may say why",
    };
    /// PID 1 never blocks, so a longer silence means that it is stuck.
    const ANSWER_LIMIT: Duration = Duration::from_secs(10);

    fn is_read_only(request: &Request) -> bool {
        request.is_read_only()
    }

    fn malformed(message: String) -> Reply {
        Reply::Refused(Refusal::Malformed { message })
    }

    fn not_permitted() -> Reply {
        Reply::Refused(Refusal::NotPermitted)
    }

    fn accepted(reply: Reply) -> Result<Reply, Refusal> {
        match reply {
            Reply::Refused(refusal) => Err(refusal),
            reply => Ok(reply),
        }
    }
}

impl Reason for Refusal {}

/// A connection to PID 1.
pub type Client = Connection<Init>;

/// Why PID 1 did not answer as hoped.
pub type ClientError = ConnectionError<Refusal>;

impl Client {
    /// Turns the connection into a stream of changes, read by
    /// [`Self::next_change`].
    ///
    /// # Errors
    /// The connection broke.
    pub fn watch(&mut self) -> Result<(), ClientError> {
        self.send(&Request::Watch)
    }

    /// The next change of a watched connection, or `None` when none came
    /// within `limit` (`None`: waits without end).
    ///
    /// # Errors
    /// As [`Connection::ask`].
    pub fn next_change(&mut self, limit: Option<Duration>) -> Result<Option<Service>, ClientError> {
        match self.receive(limit) {
            Ok(Reply::Changed(service)) => Ok(Some(service)),
            Ok(_) => Err(ClientError::Closed {
                server: Init::SERVER,
            }),
            Err(ClientError::Connection { source, .. })
                if matches!(
                    source.kind(),
                    io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }
}
