//! Asks PID 1 without blocking.

use std::path::{Path, PathBuf};
use std::time::Duration;

use control::{ClientEnd, Init, Protocol, Reply, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc::UnboundedSender;

use crate::event::Event;

/// Before PID 1 is asked again: a fresh one takes over within milliseconds.
const RETRY: Duration = Duration::from_secs(1);

struct Connection {
    stream: UnixStream,
    end: ClientEnd<Init>,
}

impl Connection {
    async fn open(path: &Path, request: &Request) -> Result<Self, String> {
        let mut stream = UnixStream::connect(path)
            .await
            .map_err(|error| format!("cannot reach PID 1 at {}: {error}", path.display()))?;
        let mut end = ClientEnd::new();
        let bytes = end.request(request).map_err(|error| error.to_string())?;
        stream
            .write_all(&bytes)
            .await
            .map_err(|error| format!("the connection to PID 1 failed: {error}"))?;
        Ok(Self { stream, end })
    }

    async fn next(&mut self) -> Result<Reply, String> {
        loop {
            match self.end.next_reply() {
                Ok(Some(reply)) => return Ok(reply),
                Ok(None) => {}
                Err(error) => return Err(format!("PID 1's answer cannot be used: {error}")),
            }
            let mut bytes = [0; 4096];
            match self.stream.read(&mut bytes).await {
                Ok(0) => return Err("PID 1 closed the connection".to_owned()),
                Ok(count) => self.end.push(&bytes[..count]),
                Err(error) => return Err(format!("the connection to PID 1 failed: {error}")),
            }
        }
    }
}

/// Asks and waits for the answer.
///
/// # Errors
/// PID 1 cannot be reached, or refuses.
pub async fn ask(path: &Path, request: &Request) -> Result<Reply, String> {
    let answer = async {
        let mut connection = Connection::open(path, request).await?;
        connection.next().await
    };
    match tokio::time::timeout(Init::ANSWER_LIMIT, answer).await {
        Ok(Ok(Reply::Refused(refusal))) => Err(format!("PID 1 refuses: {refusal}")),
        Ok(result) => result,
        Err(_) => Err(format!(
            "PID 1 does not answer within {} s",
            Init::ANSWER_LIMIT.as_secs()
        )),
    }
}

/// The machine, as PID 1 sees it.
///
/// # Errors
/// As [`ask`].
pub async fn status(path: &Path) -> Result<control::Status, String> {
    match ask(path, &Request::Status).await? {
        Reply::Status(status) => Ok(*status),
        _ => Err("PID 1 gave an answer to another question".to_owned()),
    }
}

/// Reports each change of a service, across PID 1's re-executions. Never ends.
pub async fn watch(path: PathBuf, events: UnboundedSender<Event>) {
    loop {
        if let Ok(mut connection) = Connection::open(&path, &Request::Watch).await {
            while let Ok(Reply::Changed(service)) = connection.next().await {
                if events.send(Event::Service(Box::new(service))).is_err() {
                    return;
                }
            }
        }
        tokio::time::sleep(RETRY).await;
    }
}
