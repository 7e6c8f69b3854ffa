//! Files of a repository: from a server by HTTP, or from a folder by reading. Both
//! have the same bounds.

use std::fs::File;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use http_client::{Client, Failure, Fault, SettingError, Wanted};
use nix::fcntl::OFlag;

use crate::Settings;
use crate::address::Address;

/// Bytes read from a file at once.
const CHUNK: usize = 256 * 1024;

/// Where files come from. All its clones share connections, rate limit and
/// counters.
#[derive(Clone, Debug)]
pub(crate) struct Source(Client);

impl Source {
    pub(crate) fn new(settings: &Settings) -> Result<Self, SettingError> {
        Client::new(&settings.http()).map(Self)
    }

    /// Bytes of all files so far.
    pub(crate) fn received(&self) -> u64 {
        self.0.received()
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.0.requests()
    }

    /// Asks `address` for `wanted`.
    pub(crate) async fn get(&self, address: &Address, wanted: &Wanted) -> Result<Body, Failure> {
        match address {
            Address::Http(url) => self.0.get(url, wanted).await.map(Body::Server),
            Address::Folder(path) => {
                self.0.count_request();
                let file = Reading::open(self.0.clone(), path, wanted);
                file.map(Body::File).map_err(|fault| Failure {
                    address: address.shown(),
                    fault,
                })
            }
        }
    }
}

/// The bytes of a file, or of a part of one.
#[derive(Debug)]
pub(crate) enum Body {
    Server(http_client::Body),
    File(Reading),
}

impl Body {
    /// Whether it is the whole file, although a part may have been asked for: the
    /// server knows no ranges.
    pub(crate) fn is_whole(&self) -> bool {
        match self {
            Self::Server(body) => body.is_whole(),
            Self::File(reading) => reading.is_whole,
        }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        match self {
            Self::Server(body) => body.chunk().await,
            Self::File(reading) => reading.chunk().await,
        }
    }

    /// The bytes do not match the signed metadata.
    pub(crate) fn wrong(&self, what: String) -> Failure {
        match self {
            Self::Server(body) => body.wrong(what),
            Self::File(reading) => reading.failed(Fault::Wrong(what)),
        }
    }

    /// All of it.
    pub(crate) async fn all(mut self) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }
}

/// A file that is being read.
#[derive(Debug)]
pub(crate) struct Reading {
    client: Client,
    file: File,
    address: String,
    offset: u64,
    left: u64,
    length: u64,
    /// It has to have all of `length`.
    is_exact: bool,
    is_whole: bool,
    /// Takes its memory back when the bytes that were given out are done with.
    buffer: BytesMut,
}

impl Reading {
    fn open(client: Client, path: &Path, wanted: &Wanted) -> Result<Self, Fault> {
        let broken = |error: std::io::Error| match error.kind() {
            std::io::ErrorKind::NotFound => Fault::NotFound,
            _ => Fault::Broken(error.to_string()),
        };
        // A pipe on the stick must not block the updater.
        let file = File::options()
            .read(true)
            .custom_flags(OFlag::O_NONBLOCK.bits())
            .open(path)
            .map_err(broken)?;
        let metadata = file.metadata().map_err(broken)?;
        if !metadata.is_file() {
            return Err(Fault::Broken("not a file".to_owned()));
        }
        let got = metadata.len();
        let (offset, length, is_exact) = match wanted {
            Wanted::AtMost(bound) if got > *bound => return Err(Fault::Long { expected: *bound }),
            Wanted::AtMost(bound) => (0, *bound, false),
            Wanted::Whole(expected)
            | Wanted::Part {
                length: expected, ..
            } if got < *expected => {
                return Err(Fault::Short {
                    got,
                    expected: *expected,
                });
            }
            Wanted::Whole(expected)
            | Wanted::Part {
                length: expected, ..
            } if got > *expected => {
                return Err(Fault::Long {
                    expected: *expected,
                });
            }
            Wanted::Whole(length) => (0, *length, true),
            Wanted::Part { range, .. } => (range.start, range.end - range.start, true),
        };
        Ok(Self {
            client,
            file,
            address: path.display().to_string(),
            offset,
            left: length,
            length,
            is_exact,
            is_whole: !matches!(wanted, Wanted::Part { .. }),
            buffer: BytesMut::new(),
        })
    }

    async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        if self.left == 0 {
            return Ok(None);
        }
        let chunk = self.read().map_err(|fault| self.failed(fault))?;
        // Reading does not wait, so others get their turn here.
        tokio::task::yield_now().await;
        if chunk.is_empty() {
            if self.is_exact {
                return Err(self.failed(Fault::Short {
                    got: self.length - self.left,
                    expected: self.length,
                }));
            }
            return Ok(None);
        }
        self.offset += chunk.len() as u64;
        self.left -= chunk.len() as u64;
        self.client.count(chunk.len()).await;
        Ok(Some(chunk))
    }

    fn read(&mut self) -> Result<Bytes, Fault> {
        self.buffer.resize(self.left.min(CHUNK as u64) as usize, 0);
        let got = self
            .file
            .read_at(&mut self.buffer, self.offset)
            .map_err(|error| Fault::Broken(error.to_string()))?;
        self.buffer.truncate(got);
        Ok(self.buffer.split().freeze())
    }

    fn failed(&self, fault: Fault) -> Failure {
        Failure {
            address: self.address.clone(),
            fault,
        }
    }
}
