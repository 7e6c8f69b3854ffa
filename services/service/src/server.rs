//! A service's socket, by which it is asked.

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use control::admission::{Connected, IDLE, evicted};
use control::{Protocol, ServerEnd};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::{Instant, timeout};

/// How many clients are served at once.
const CLIENTS: usize = 64;

/// Before a client is accepted again for which there was no descriptor.
const RETRY: Duration = Duration::from_millis(100);

/// A listening socket that speaks the protocol `P`.
///
/// Each client's requests are answered one after the other, those of several
/// clients beside each other. Who stays connected is the rule of
/// [`control::admission`]. User 0 may ask everything, any other user only what
/// changes nothing ([`Protocol::is_read_only`]).
#[derive(Debug)]
pub struct Server<P> {
    listener: UnixListener,
    idle: Duration,
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
    /// The socket cannot be made; the error names it.
    pub fn listen(path: &Path) -> io::Result<Self> {
        let listener = bind(path).map_err(|error| {
            let what = format!("cannot listen at {}: {error}", path.display());
            io::Error::new(error.kind(), what)
        })?;
        Ok(Self {
            listener,
            idle: IDLE,
            protocol: std::marker::PhantomData,
        })
    }

    /// Serves clients for ever: `answer` gets each request that its client may
    /// make, and where the answers go. It may keep the latter, and answer later;
    /// where it drops them without an answer, the connection ends. It must not
    /// wait: no other client is served meanwhile on a runtime of one thread.
    pub async fn serve(self, answer: impl Fn(P::Request, Answers<P>) + Send + Sync + 'static) {
        let answer = Arc::new(answer);
        let (clients, idle) = (Clients::default(), self.idle);
        for number in 0_u32.. {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    let uid = stream.peer_cred().map_or(u32::MAX, |peer| peer.uid());
                    let place = clients.place(number, uid);
                    let answer = Arc::clone(&answer);
                    let task = tokio::spawn(async move {
                        // The client disconnected: there is no one to tell.
                        let _ = client::<P>(stream, idle, uid, &place, &*answer).await;
                    });
                    clients.accepted(number, task.abort_handle());
                }
                // Out of descriptors, for a moment.
                Err(_) => tokio::time::sleep(RETRY).await,
            }
        }
    }
}

/// Binds in the place of a socket that is there.
fn bind(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// All clients, by their numbers.
#[derive(Clone, Default)]
struct Clients(Arc<Mutex<BTreeMap<u32, Client>>>);

struct Client {
    connected: Connected,
    task: Option<AbortHandle>,
}

/// A client's place among them, which it has as long as this lives.
struct Place {
    clients: Clients,
    number: u32,
}

/// Since when the times of [`Connected::active`] are counted.
fn now() -> Duration {
    static BEGIN: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    BEGIN.get_or_init(Instant::now).elapsed()
}

impl Clients {
    fn place(&self, number: u32, uid: u32) -> Place {
        let connected = Connected {
            number,
            uid,
            is_kept: false,
            active: now(),
        };
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let task = None;
        clients.insert(number, Client { connected, task });
        Place {
            clients: self.clone(),
            number,
        }
    }

    /// Notes the task that serves a client, and ends another one where there are too
    /// many.
    fn accepted(&self, number: u32, task: AbortHandle) {
        let mut clients = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get_mut(&number) {
            client.task = Some(task);
        }
        if clients.len() > CLIENTS {
            let all: Vec<Connected> = clients.values().map(|client| client.connected).collect();
            let gone = evicted(&all, number).and_then(|gone| clients.remove(&gone));
            if let Some(task) = gone.and_then(|gone| gone.task) {
                task.abort();
            }
        }
    }
}

impl Place {
    /// Notes that the client has done something, and whether an answer of it is due.
    fn note(&self, is_kept: bool) {
        let mut clients = self
            .clients
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get_mut(&self.number) {
            client.connected.active = now();
            client.connected.is_kept = is_kept;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut clients = self
            .clients
            .0
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        clients.remove(&self.number);
    }
}

async fn client<P: Protocol>(
    mut stream: UnixStream,
    idle: Duration,
    uid: u32,
    place: &Place,
    answer: &impl Fn(P::Request, Answers<P>),
) -> io::Result<()> {
    let may_change = uid == 0;
    let (mut end, hello) = ServerEnd::<P>::accept();
    write(&mut stream, &hello, idle).await?;
    let mut bytes = [0; 4096];
    let mut heard = Instant::now();
    loop {
        let request = match end.next_request() {
            Ok(Some(request)) => request,
            Ok(None) => {
                // Of the whole request, however it dribbles in.
                let left = idle.saturating_sub(heard.elapsed());
                match timeout(left, stream.read(&mut bytes)).await?? {
                    0 => return Ok(()),
                    count => end.push(&bytes[..count]),
                }
                continue;
            }
            Err(error) => {
                return write(&mut stream, &ServerEnd::<P>::rejection(&error), idle).await;
            }
        };
        if may_change || P::is_read_only(&request) {
            place.note(true);
            let (sender, answers) = mpsc::unbounded_channel();
            answer(request, sender);
            pass_on::<P>(&mut stream, answers, idle).await?;
        } else {
            send::<P>(&mut stream, &P::not_permitted(), idle).await?;
        }
        place.note(false);
        heard = Instant::now();
    }
}

/// Writes all of it, to a client that takes it in time.
async fn write(stream: &mut UnixStream, bytes: &[u8], idle: Duration) -> io::Result<()> {
    timeout(idle, stream.write_all(bytes)).await?
}

/// Sends the answers to one request, of which the last is no progress.
async fn pass_on<P: Protocol>(
    stream: &mut UnixStream,
    mut answers: mpsc::UnboundedReceiver<P::Reply>,
    idle: Duration,
) -> io::Result<()> {
    while let Some(reply) = answers.recv().await {
        send::<P>(stream, &reply, idle).await?;
        if !P::is_progress(&reply) {
            return Ok(());
        }
    }
    // The service ends, or dropped the request.
    Err(io::ErrorKind::ConnectionAborted.into())
}

async fn send<P: Protocol>(
    stream: &mut UnixStream,
    reply: &P::Reply,
    idle: Duration,
) -> io::Result<()> {
    let frame = ServerEnd::<P>::reply(reply).map_err(io::Error::other)?;
    write(stream, &frame, idle).await
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
    async fn a_place_where_no_socket_can_be_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/socket");
        let error = Server::<Init>::listen(&path).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing/socket"), "{error}");
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

    /// Hostile: Somebody opens hundreds of connections to a service's socket and says nothing. Outcome: Whoever comes gets in, and the idle ones are closed.
    #[tokio::test]
    async fn idle_clients_do_not_keep_others_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        served(&path, |_, answers| {
            answers.send(Reply::Done(Outcome::default())).unwrap();
        })
        .await;
        let mut idle = Vec::new();
        for _ in 0..3 * CLIENTS {
            idle.push(UnixStream::connect(&path).await.unwrap());
        }
        ask(&path, Request::Status).await.unwrap();
        let mut first = Vec::new();
        let mut oldest = idle.remove(0);
        oldest.read_to_end(&mut first).await.unwrap();
        assert!(!first.is_empty());
    }

    #[tokio::test]
    async fn who_says_nothing_is_disconnected() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let mut server = Server::<Init>::listen(&path).unwrap();
        server.idle = Duration::from_millis(50);
        tokio::spawn(server.serve(|_, _| {}));
        let mut client = UnixStream::connect(&path).await.unwrap();
        let mut bytes = Vec::new();
        // Its greeting, and then the end.
        client.read_to_end(&mut bytes).await.unwrap();
        assert!(!bytes.is_empty());
    }
}
