//! The updater's protocol.

use std::time::Duration;

use control::{Connection, ConnectionError, Protocol, Reason, Server};

use crate::{Refusal, Reply, Request};

/// What the updater speaks on its socket.
#[derive(Debug)]
pub enum Updater {}

impl Protocol for Updater {
    type Request = Request;
    type Reply = Reply;
    type Refusal = Refusal;

    const NAME: &'static str = "updater";
    const VERSION: u32 = 1;
    const SERVER: Server = Server {
        name: "the updater",
        unreachable: "`wherry service show updater` says whether it runs",
        closed: "`wherry service logs updater` may say why",
    };
    /// It tells its progress each second, so a longer silence means that it is
    /// stuck, or waits for a disk that does not answer.
    const ANSWER_LIMIT: Duration = Duration::from_secs(60);

    fn is_read_only(request: &Request) -> bool {
        request.is_read_only()
    }

    fn is_progress(reply: &Reply) -> bool {
        matches!(reply, Reply::Progress(_))
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

impl Reason for Refusal {
    fn was_tried(&self) -> bool {
        matches!(self, Self::Failed { .. })
    }
}

/// A connection to the updater.
pub type Client = Connection<Updater>;

/// Why the updater did not answer as hoped.
pub type ClientError = ConnectionError<Refusal>;
