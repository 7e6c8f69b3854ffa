//! A service's socket, by which it is asked.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use control::{Protocol, ServerEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc};

/// How many clients are served at once; more wait.
const CLIENTS: usize = 16;

/// Before a client is accepted again for which there was no descriptor.
const RETRY: Duration = Duration::from_millis(100);

/// A listening socket that speaks the protocol `P`.
///
/// Each client's requests are answered one after the other, those of several
/// clients beside each other. User 0 may ask everything, any other user only what
/// changes nothing ([`Protocol::is_read_only`]).
#[derive(Debug)]
pub struct Server<P> {
    listener: UnixListener,
    protocol: std::marker::PhantomData<P>,
}

/// Where the answers to one request go: any number that tell of progress, then one
/// other. Sending fails where the client has gone.
pub type Answers<P> = mpsc::UnboundedSender<<P as Protocol>::Reply>;

impl<P: Protocol + Send + 'static> Server<P>
where
    P::Request: Send,
    P::Reply: Send + Sync,
{
    /// Listens at `path`, in the place of an earlier run of this service. Any
    /// user may connect. To be called within a tokio runtime.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn listen(path: &Path) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
        Ok(Self {
            listener,
            protocol: std::marker::PhantomData,
        })
    }

    /// Serves clients for ever: `answer` gets each request that its client may
    /// make, and where the answers go. It may keep the latter, and answer later.
    pub async fn serve(self, answer: impl Fn(P::Request, Answers<P>) + Clone + Send + 'static) {
        let places = Arc::new(Semaphore::new(CLIENTS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else {
                return;
            };
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let answer = answer.clone();
                    tokio::spawn(async move {
                        // The client disconnected: there is no one to tell.
                        let _ = client::<P>(stream, answer).await;
                        drop(place);
                    });
                }
                // Out of descriptors, for a moment.
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

async fn client<P: Protocol>(
    mut stream: UnixStream,
    answer: impl Fn(P::Request, Answers<P>),
) -> io::Result<()> {
    let may_change = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0);
    let (mut end, hello) = ServerEnd::<P>::accept();
    stream.write_all(&hello).await?;
    let mut bytes = [0; 4096];
    loop {
        let request = match end.next_request() {
            Ok(Some(request)) => request,
            Ok(None) => {
                match stream.read(&mut bytes).await? {
                    0 => return Ok(()),
                    count => end.push(&bytes[..count]),
                }
                continue;
            }
            Err(error) => return stream.write_all(&ServerEnd::<P>::rejection(&error)).await,
        };
        if !may_change && !P::is_read_only(&request) {
            send::<P>(&mut stream, &P::not_permitted()).await?;
            continue;
        }
        let (sender, answers) = mpsc::unbounded_channel();
        answer(request, sender);
        pass_on::<P>(&mut stream, answers).await?;
    }
}

/// Sends the answers to one request, of which the last is no progress.
async fn pass_on<P: Protocol>(
    stream: &mut UnixStream,
    mut answers: mpsc::UnboundedReceiver<P::Reply>,
) -> io::Result<()> {
    while let Some(reply) = answers.recv().await {
        send::<P>(stream, &reply).await?;
        if !P::is_progress(&reply) {
            return Ok(());
        }
    }
    // The service ends, or dropped the request.
    Err(io::ErrorKind::ConnectionAborted.into())
}

async fn send<P: Protocol>(stream: &mut UnixStream, reply: &P::Reply) -> io::Result<()> {
    let frame = ServerEnd::<P>::reply(reply).map_err(io::Error::other)?;
    stream.write_all(&frame).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use control::{Client, ClientError, Init, Outcome, Reply, Request};

    /// A server of PID 1's protocol that answers `answer` to whatever it is asked.
    async fn served(path: &Path, answer: fn(Request, Answers<Init>)) {
        let server = Server::<Init>::listen(path).unwrap();
        tokio::spawn(server.serve(answer));
    }

    /// Asks as a program does that knows no runtime.
    async fn ask(path: &Path, request: Request) -> Result<Reply, ClientError> {
        let path = path.to_owned();
        tokio::task::spawn_blocking(move || Client::connect(path)?.ask(&request))
            .await
            .unwrap()
    }

    #[tokio::test]
    async fn a_request_is_answered_and_a_dropped_one_ends_the_connection() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        served(&path, |request, answers| {
            if request == Request::Status {
                answers.send(Reply::Done(Outcome::default())).unwrap();
            }
        })
        .await;
        let reply = ask(&path, Request::Status).await.unwrap();
        assert_eq!(reply, Reply::Done(Outcome::default()));
        let error = ask(&path, Request::Boot).await.unwrap_err();
        assert!(matches!(error, ClientError::Closed { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_fresh_run_takes_the_place_of_an_earlier_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        drop(Server::<Init>::listen(&path).unwrap());
        served(&path, |_, answers| {
            answers.send(Reply::Done(Outcome::default())).unwrap();
        })
        .await;
        ask(&path, Request::Status).await.unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o666);
    }

    #[tokio::test]
    async fn garbage_gets_a_reason_and_the_others_are_served_on() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        served(&path, |_, answers| {
            answers.send(Reply::Done(Outcome::default())).unwrap();
        })
        .await;
        let mut garbage = UnixStream::connect(&path).await.unwrap();
        garbage.write_all(b"\x04\0\0\0what").await.unwrap();
        let mut answer = Vec::new();
        garbage.read_to_end(&mut answer).await.unwrap();
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert!(text.contains("malformed"), "{text}");
        ask(&path, Request::Status).await.unwrap();
    }
}
