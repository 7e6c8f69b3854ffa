//! The updater's socket.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use control::{FrameBuffer, MAX_REPLY, MAX_REQUEST, encode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use updater_control::{Refusal, Reply, Request};

use crate::daemon::Event;

/// How many clients are served at once; more wait.
const CLIENTS: usize = 16;

/// Listens at `path`, in the place of an earlier run of this program.
///
/// # Errors
/// The socket cannot be made.
pub fn listen(path: &Path) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(path)?;
    // Who may do what is decided by the peer's user.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

/// Serves clients for ever.
pub async fn serve(listener: UnixListener, events: UnboundedSender<Event>) {
    let places = std::sync::Arc::new(tokio::sync::Semaphore::new(CLIENTS));
    loop {
        let Ok(place) = std::sync::Arc::clone(&places).acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let events = events.clone();
                tokio::spawn(async move {
                    // The client disconnected.
                    let _ = client(stream, events).await;
                    drop(place);
                });
            }
            // Out of descriptors, for a moment.
            Err(_) => tokio::time::sleep(std::time::Duration::from_millis(100)).await,
        }
    }
}

async fn client(mut stream: UnixStream, events: UnboundedSender<Event>) -> io::Result<()> {
    let may_change = stream.peer_cred().is_ok_and(|peer| peer.uid() == 0);
    let mut buffer = FrameBuffer::new(MAX_REQUEST);
    let mut bytes = [0; 4096];
    loop {
        let frame = match buffer.next_frame() {
            Ok(frame) => frame,
            Err(error) => return refuse(&mut stream, error.to_string()).await,
        };
        let Some(json) = frame else {
            match stream.read(&mut bytes).await? {
                0 => return Ok(()),
                count => buffer.push(&bytes[..count]),
            }
            continue;
        };
        let request: Request = match serde_json::from_slice(&json) {
            Ok(request) => request,
            Err(error) => return refuse(&mut stream, error.to_string()).await,
        };
        if !may_change && !request.is_read_only() {
            send(&mut stream, &Reply::Refused(Refusal::NotPermitted)).await?;
            continue;
        }
        let (answers, received) = unbounded_channel();
        if events.send(Event::Asked { request, answers }).is_err() {
            return Ok(());
        }
        pass_on(&mut stream, received).await?;
    }
}

/// Sends the answers to one request, of which the last is no progress.
async fn pass_on(stream: &mut UnixStream, mut answers: UnboundedReceiver<Reply>) -> io::Result<()> {
    while let Some(answer) = answers.recv().await {
        send(stream, &answer).await?;
        if !matches!(answer, Reply::Progress(_)) {
            return Ok(());
        }
    }
    // The daemon ends.
    Err(io::ErrorKind::ConnectionAborted.into())
}

async fn refuse(stream: &mut UnixStream, message: String) -> io::Result<()> {
    send(stream, &Reply::Refused(Refusal::Malformed { message })).await
}

async fn send(stream: &mut UnixStream, reply: &Reply) -> io::Result<()> {
    let frame = encode(reply, MAX_REPLY).map_err(io::Error::other)?;
    stream.write_all(&frame).await
}
