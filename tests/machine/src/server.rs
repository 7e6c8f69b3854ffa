//! A web server with a folder's files, which machines reach.
//!
//! It listens on loopback. A machine's network leads nowhere, but QEMU passes
//! each connection to [`Server::ADDRESS`] on, by a process of its own: busybox'
//! `nc`, which copies between QEMU and the server.

use crate::{Error, Tools};
use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use tiny_http::{Header, Method, Request, Response, StatusCode};

/// How the server answers a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// With what was asked for.
    Honest,
    /// With half of it; then nothing more comes, and the connection stays.
    Stall,
    /// With half of it; then the connection ends.
    Truncate,
    /// With bytes that are not the file's.
    Lie,
    /// With this status and no content.
    Refuse(u16),
}

/// A request that was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// What was asked for: `/a/b`.
    pub path: String,
    /// The first byte and the one behind the last, where a part was asked for.
    pub range: Option<(u64, u64)>,
    /// The status.
    pub status: u16,
    /// Bytes of content that were sent.
    pub bytes: u64,
}

type Rule = dyn Fn(&str) -> Behaviour + Send + Sync;

/// A server that runs. It ends when this is dropped.
pub struct Server {
    http: Arc<tiny_http::Server>,
    port: u16,
    state: Arc<State>,
}

struct State {
    folder: PathBuf,
    served: Mutex<Vec<Served>>,
    rule: Mutex<Arc<Rule>>,
    over: Mutex<bool>,
    told: Condvar,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("port", &self.port)
            .field("folder", &self.state.folder)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Where machines find it: behind `http://`.
    pub const ADDRESS: &str = "10.0.2.100";

    /// Serves the files of `folder`.
    pub fn serve(folder: impl Into<PathBuf>) -> Result<Self, Error> {
        let folder = folder.into();
        let at = (IpAddr::from(Ipv4Addr::LOCALHOST), 0);
        let http = tiny_http::Server::http(at)
            .map_err(|error| io::Error::other(error.to_string()))
            .map_err(Error::io("serve", &folder))?;
        let port = match http.server_addr() {
            tiny_http::ListenAddr::IP(address) => address.port(),
            tiny_http::ListenAddr::Unix(_) => 0,
        };
        let server = Self {
            http: Arc::new(http),
            port,
            state: Arc::new(State {
                folder,
                served: Mutex::default(),
                rule: Mutex::new(Arc::new(|_| Behaviour::Honest)),
                over: Mutex::default(),
                told: Condvar::new(),
            }),
        };
        let (http, state) = (Arc::clone(&server.http), Arc::clone(&server.state));
        thread::spawn(move || {
            for request in http.incoming_requests() {
                let state = Arc::clone(&state);
                // A stalled answer must not keep others waiting.
                thread::spawn(move || state.answer(request));
            }
        });
        Ok(server)
    }

    /// Its port on loopback.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where this host's programs find it.
    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// From now on requests are answered as `rule` says for their path.
    pub fn behave(&self, rule: impl Fn(&str) -> Behaviour + Send + Sync + 'static) {
        *lock(&self.state.rule) = Arc::new(rule);
    }

    /// All requests answered so far.
    pub fn served(&self) -> Vec<Served> {
        lock(&self.state.served).clone()
    }

    /// Bytes of content sent so far.
    pub fn bytes(&self) -> u64 {
        lock(&self.state.served).iter().map(|one| one.bytes).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        *lock(&self.state.over) = true;
        self.state.told.notify_all();
        self.http.unblock();
    }
}

impl State {
    fn answer(&self, request: Request) {
        let path = request.url().split('?').next().unwrap_or("/").to_owned();
        let range = request
            .headers()
            .iter()
            .find(|header| header.field.equiv("Range"))
            .and_then(|header| parse_range(header.value.as_str()));
        let rule = Arc::clone(&*lock(&self.rule));
        let behaviour = rule(&path);
        let mut served = Served {
            path,
            range: None,
            status: 0,
            bytes: 0,
        };
        // Whoever asked may be gone by now.
        let _ = self.respond(request, range, behaviour, &mut served);
    }

    fn respond(
        &self,
        request: Request,
        range: Option<Asked>,
        behaviour: Behaviour,
        served: &mut Served,
    ) -> io::Result<()> {
        if let Behaviour::Refuse(status) = behaviour {
            return self.refuse(request, status, served);
        }
        let known = matches!(request.method(), Method::Get | Method::Head);
        let Some((mut file, length)) = self.open(&served.path).filter(|_| known) else {
            return self.refuse(request, 404, served);
        };
        let (start, end) = match range.map(|asked| asked.within(length)) {
            None => (0, length),
            Some(Some(part)) => {
                served.range = Some(part);
                part
            }
            Some(None) => return self.refuse(request, 416, served),
        };
        file.seek(SeekFrom::Start(start))?;
        let length_sent = end - start;
        served.status = if served.range.is_some() { 206 } else { 200 };
        let mut headers = vec![header("Accept-Ranges", "bytes")];
        if served.range.is_some() {
            let content = format!("bytes {start}-{}/{length}", end - 1);
            headers.push(header("Content-Range", &content));
        }
        if *request.method() == Method::Head {
            self.record(served);
            return request.respond(response(served.status, headers, io::empty(), length_sent));
        }
        match behaviour {
            Behaviour::Stall | Behaviour::Truncate => {
                served.bytes = length_sent / 2;
                self.record(served);
                let mut stream = request.into_writer();
                write!(
                    stream,
                    "HTTP/1.1 {} Partly\r\nContent-Length: {length_sent}\r\n",
                    served.status
                )?;
                for header in &headers {
                    write!(stream, "{}: {}\r\n", header.field, header.value)?;
                }
                write!(stream, "\r\n")?;
                io::copy(&mut file.take(served.bytes), &mut stream)?;
                stream.flush()?;
                if behaviour == Behaviour::Stall {
                    self.wait_for_the_end();
                }
                Ok(())
            }
            Behaviour::Honest | Behaviour::Lie | Behaviour::Refuse(_) => {
                served.bytes = length_sent;
                self.record(served);
                let body = Body {
                    file: file.take(length_sent),
                    lies: behaviour == Behaviour::Lie,
                };
                request.respond(response(served.status, headers, body, length_sent))
            }
        }
    }

    fn refuse(&self, request: Request, status: u16, served: &mut Served) -> io::Result<()> {
        served.status = status;
        self.record(served);
        request.respond(Response::empty(status))
    }

    fn open(&self, path: &str) -> Option<(File, u64)> {
        let path = Path::new(path.trim_start_matches('/'));
        let plain = path
            .components()
            .all(|part| matches!(part, Component::Normal(_)));
        let file = File::open(self.folder.join(path)).ok().filter(|_| plain)?;
        let about = file.metadata().ok().filter(|about| about.is_file())?;
        Some((file, about.len()))
    }

    fn record(&self, served: &Served) {
        lock(&self.served).push(served.clone());
    }

    fn wait_for_the_end(&self) {
        let over = lock(&self.over);
        drop(self.told.wait_while(over, |over| !*over));
    }
}

/// A file's part, or something else of the same length.
struct Body {
    file: io::Take<File>,
    lies: bool,
}

impl Read for Body {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        if self.lies {
            buffer[..read].iter_mut().for_each(|byte| *byte ^= 0x55);
        }
        Ok(read)
    }
}

fn response<R: Read>(status: u16, headers: Vec<Header>, body: R, length: u64) -> Response<R> {
    let length = usize::try_from(length).ok();
    Response::new(StatusCode(status), headers, body, length, None)
        // Whoever fetches wants to see the length.
        .with_chunked_threshold(usize::MAX)
}

fn header(name: &str, value: &str) -> Header {
    match Header::from_bytes(name, value) {
        Ok(header) => header,
        Err(()) => unreachable!("these headers are ASCII"),
    }
}

/// The part that a `Range` header names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Asked {
    first: u64,
    last: Option<u64>,
}

impl Asked {
    /// First byte and the one behind the last; nothing where the file ends before.
    fn within(self, length: u64) -> Option<(u64, u64)> {
        let end = match self.last {
            Some(last) => length.min(last.saturating_add(1)),
            None => length,
        };
        (self.first < end).then_some((self.first, end))
    }
}

/// `bytes=FIRST-` or `bytes=FIRST-LAST`; of more than one part the first.
fn parse_range(text: &str) -> Option<Asked> {
    let parts = text.trim().strip_prefix("bytes=")?;
    let (first, last) = parts.split(',').next()?.split_once('-')?;
    Some(Asked {
        first: first.trim().parse().ok()?,
        last: match last.trim() {
            "" => None,
            last => Some(last.parse().ok()?),
        },
    })
}

/// What follows `-netdev` for a machine that reaches only the server.
pub(crate) fn network(tools: &Tools, port: u16) -> Result<String, Error> {
    let busybox = tools.file("usr/bin/busybox")?.display().to_string();
    Ok(format!(
        "user,id=net,restrict=on,guestfwd=tcp:{}:80-cmd:'{}' nc 127.0.0.1 {port}",
        Server::ADDRESS,
        busybox.replace(',', ",,"),
    ))
}

/// A panic in another thread leaves nothing half-done behind these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::{Asked, Behaviour, Server, parse_range};
    use std::fs;
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::time::Duration;

    fn ask(server: &Server, path: &str, range: &str) -> (String, Vec<u8>) {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{range}\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        // A stalled answer is one that does not end; the rest of it counts.
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let _ = stream.read_to_end(&mut answer);
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(answer[..end].to_vec()).unwrap();
        (head, answer.split_off(end + 4))
    }

    fn server() -> (tempfile::TempDir, Server) {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("files")).unwrap();
        fs::write(folder.path().join("files/ten"), b"0123456789").unwrap();
        fs::write(folder.path().join("secret"), b"secret").unwrap();
        let server = Server::serve(folder.path().join("files")).unwrap();
        (folder, server)
    }

    #[test]
    fn files_and_parts_of_them_are_served_and_counted() {
        let (_folder, server) = server();
        let (head, body) = ask(&server, "/ten", "");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        assert_eq!(body, b"0123456789");
        let (head, body) = ask(&server, "/ten", "Range: bytes=2-4\r\n");
        assert!(head.starts_with("HTTP/1.1 206"), "{head}");
        assert!(head.contains("bytes 2-4/10"), "{head}");
        assert_eq!(body, b"234");
        let (_, body) = ask(&server, "/ten", "Range: bytes=7-\r\n");
        assert_eq!(body, b"789");
        let (head, _) = ask(&server, "/ten", "Range: bytes=10-\r\n");
        assert!(head.starts_with("HTTP/1.1 416"), "{head}");
        for path in ["/eleven", "/../secret", "/"] {
            let (head, _) = ask(&server, path, "");
            assert!(head.starts_with("HTTP/1.1 404"), "{path}: {head}");
        }
        assert_eq!(server.bytes(), 10 + 3 + 3);
        assert_eq!(server.served()[1].range, Some((2, 5)));
    }

    #[test]
    fn it_misbehaves_when_it_is_told_to() {
        let (_folder, server) = server();
        for (behaviour, expected) in [
            (Behaviour::Truncate, b"01234".as_slice()),
            (Behaviour::Stall, b"01234"),
            (Behaviour::Lie, b"edgfa`cbml"),
            (Behaviour::Refuse(503), b""),
        ] {
            server.behave(move |path| match path {
                "/ten" => behaviour,
                _ => Behaviour::Honest,
            });
            let (_, body) = ask(&server, "/ten", "");
            assert_eq!(body, expected, "{behaviour:?}");
        }
    }

    #[test]
    fn a_range_has_one_end_or_two() {
        let asked = |first, last| Some(Asked { first, last });
        assert_eq!(parse_range("bytes=0-99"), asked(0, Some(99)));
        assert_eq!(parse_range("bytes=5-"), asked(5, None));
        assert_eq!(parse_range("bytes=1-2, 5-6"), asked(1, Some(2)));
        for text in ["bytes=-5", "lines=1-2", "bytes=a-b", ""] {
            assert_eq!(parse_range(text), None, "{text}");
        }
        let asked = parse_range("bytes=5-20").unwrap();
        assert_eq!(asked.within(10), Some((5, 10)));
        assert_eq!(asked.within(5), None);
    }
}
