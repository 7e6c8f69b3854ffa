//! A web server for tests that misbehaves on request: it stalls,
//! truncates, redirects, and lies about lengths, ranges and encodings.
#![allow(clippy::unwrap_used, clippy::missing_panics_doc)] // A test fails by it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The path, without the first `/`.
    pub path: String,
    /// First and last byte asked for.
    pub range: Option<(u64, u64)>,
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Answer {
    /// What is in the folder.
    Good,
    /// The whole file although a range was asked for.
    Whole,
    /// This status and nothing more.
    Status(u16),
    /// The right header, so many bytes, and the end.
    Truncated(usize),
    /// The right header, so many bytes, and silence.
    Stalled(usize),
    /// One byte at a time, slowly.
    Dripping,
    /// One bit of the body is wrong, at this place of the body.
    Flipped(usize),
    /// Other bytes than asked for, honestly labelled.
    OtherRange,
    /// A body without end or length.
    Endless,
    /// Bytes from the test.
    Bytes(Vec<u8>),
    /// To another address.
    Redirect(String),
    /// The right bytes, labelled as compressed.
    Encoded,
    /// An impossible length.
    Claims(u64),
}

type Rule = dyn Fn(&Request) -> Answer + Send + Sync;

/// The server. It ends when it is dropped.
pub struct Server {
    /// Its address, without a `/` at the end.
    pub address: String,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves `folder`, each request as `rule` says.
    pub fn start(folder: &Path, rule: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        Self::begin(folder, Box::new(rule), None)
    }

    /// The same over TLS. Also gives the certificate (PEM), which is its own
    /// authority.
    pub fn safe(
        folder: &Path,
        rule: impl Fn(&Request) -> Answer + Send + Sync + 'static,
    ) -> (Self, String) {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let server = Self::begin(folder, Box::new(rule), Some(Arc::new(config)));
        (server, made.cert.pem())
    }

    fn begin(folder: &Path, rule: Box<Rule>, tls: Option<Arc<ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let scheme = if tls.is_some() { "https" } else { "http" };
        let address = format!("{scheme}://{}", listener.local_addr().unwrap());
        let stop = Arc::new(AtomicBool::new(false));
        let requests = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        let serve = Arc::new(Serving {
            folder: folder.to_owned(),
            rule,
            tls,
            stop: stop.clone(),
            requests: requests.clone(),
        });
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                if serve.stop.load(Ordering::SeqCst) {
                    return;
                }
                count.fetch_add(1, Ordering::SeqCst);
                let serve = serve.clone();
                std::thread::spawn(move || {
                    // A client may disconnect.
                    let _ = serve.connection(connection.unwrap());
                });
            }
        });
        Self {
            address,
            stop,
            requests,
            connections,
            thread: Some(thread),
        }
    }

    /// A server that behaves correctly.
    pub fn good(folder: &Path) -> Self {
        Self::start(folder, |_| Answer::Good)
    }

    /// The requests so far.
    pub fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    /// How many connections there were.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Which ranges of files whose name ends so.
    pub fn ranges(&self, end: &str) -> Vec<(u64, u64)> {
        self.requests()
            .into_iter()
            .filter(|request| request.path.ends_with(end))
            .filter_map(|request| request.range)
            .collect()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the one that waits for connections.
        let (_, place) = self.address.split_once("://").unwrap();
        let _ = TcpStream::connect(place);
        self.thread.take().unwrap().join().unwrap();
    }
}

struct Serving {
    folder: PathBuf,
    rule: Box<Rule>,
    tls: Option<Arc<ServerConfig>>,
    stop: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Serving {
    fn connection(&self, stream: TcpStream) -> std::io::Result<()> {
        stream.set_nodelay(true)?;
        match self.tls.clone() {
            Some(config) => {
                let session = ServerConnection::new(config).map_err(std::io::Error::other)?;
                self.talk(StreamOwned::new(session, stream))
            }
            None => self.talk(stream),
        }
    }

    fn talk(&self, stream: impl Read + Write) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream);
        while let Some(request) = read(&mut reader)? {
            self.requests.lock().unwrap().push(request.clone());
            let answer = (self.rule)(&request);
            if !self.answer(reader.get_mut(), &request, &answer)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Whether the connection can be reused.
    fn answer(
        &self,
        stream: &mut impl Write,
        request: &Request,
        answer: &Answer,
    ) -> std::io::Result<bool> {
        let plain = |stream: &mut dyn Write, status: u16, more: &str| {
            write!(
                stream,
                "HTTP/1.1 {status} x\r\nContent-Length: 0\r\n{more}\r\n"
            )
        };
        let content = match answer {
            Answer::Status(status) => {
                plain(stream, *status, "")?;
                return Ok(true);
            }
            Answer::Redirect(to) => {
                plain(stream, 302, &format!("Location: {to}\r\n"))?;
                return Ok(true);
            }
            Answer::Claims(length) => {
                write!(stream, "HTTP/1.1 200 x\r\nContent-Length: {length}\r\n\r\n")?;
                return Ok(false);
            }
            Answer::Endless => {
                write!(
                    stream,
                    "HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n"
                )?;
                while !self.stop.load(Ordering::SeqCst) {
                    stream.write_all(b"1000\r\n")?;
                    stream.write_all(&[b'x'; 4096])?;
                    stream.write_all(b"\r\n")?;
                }
                return Ok(false);
            }
            Answer::Bytes(bytes) => Ok(bytes.clone()),
            _ => fs::read(self.folder.join(&request.path)),
        };
        let Ok(content) = content else {
            plain(stream, 404, "")?;
            return Ok(true);
        };
        let total = content.len() as u64;
        let range = request.range.filter(|_| !matches!(answer, Answer::Whole));
        let (mut body, head) = match range {
            Some((first, _)) if first >= total => {
                plain(stream, 416, "")?;
                return Ok(true);
            }
            Some((first, last)) => {
                let (first, last) = match answer {
                    Answer::OtherRange => (first + 1, last.min(total - 1)),
                    _ => (first, last.min(total - 1)),
                };
                let body = content[first as usize..=last as usize].to_vec();
                let head =
                    format!("HTTP/1.1 206 x\r\nContent-Range: bytes {first}-{last}/{total}\r\n");
                (body, head)
            }
            None => (content, "HTTP/1.1 200 x\r\n".to_owned()),
        };
        let encoding = match answer {
            Answer::Encoded => "Content-Encoding: gzip\r\n",
            _ => "",
        };
        write!(
            stream,
            "{head}{encoding}Content-Length: {}\r\n\r\n",
            body.len()
        )?;
        match answer {
            Answer::Truncated(length) => {
                stream.write_all(&body[..body.len().min(*length)])?;
                return Ok(false);
            }
            Answer::Stalled(length) => {
                stream.write_all(&body[..body.len().min(*length)])?;
                self.wait();
                return Ok(false);
            }
            Answer::Dripping => {
                for byte in body {
                    if self.stop.load(Ordering::SeqCst) {
                        return Ok(false);
                    }
                    stream.write_all(&[byte])?;
                    std::thread::sleep(Duration::from_millis(20));
                }
                return Ok(false);
            }
            Answer::Flipped(at) if !body.is_empty() => {
                let at = at % body.len();
                body[at] ^= 0x10;
            }
            _ => {}
        }
        stream.write_all(&body)?;
        Ok(true)
    }

    fn wait(&self) {
        while !self.stop.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        if reader.by_ref().take(8192).read_line(&mut line)? == 0 {
            return Ok(None);
        }
        if line == "\r\n" {
            break;
        }
        head.push(line.trim_end().to_owned());
    }
    let path = head[0].split(' ').nth(1).unwrap();
    // A proxy is asked for whole addresses.
    let path = path.split_once("://").map_or(path, |(_, rest)| {
        rest.split_once('/').map_or("", |(_, path)| path)
    });
    let range = head.iter().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        let value = value.strip_prefix("bytes=")?;
        let (first, last) = value.split_once('-')?;
        name.eq_ignore_ascii_case("range")
            .then(|| (first.parse().unwrap(), last.parse().unwrap()))
    });
    Ok(Some(Request {
        path: path.trim_start_matches('/').to_owned(),
        range,
    }))
}
