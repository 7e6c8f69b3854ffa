//! Requests: to servers by HTTP, to folders by reading. Everything is bounded:
//! how long an answer may take, how long it may be.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use nix::fcntl::OFlag;
use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, LOCATION, RANGE};
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Proxy, Response, StatusCode};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio::time::{Instant, timeout};
use url::Url;

use crate::address::Address;
use crate::dns::Resolver;
use crate::rate::Bucket;
use crate::{Failure, Fault, FetchError, Patience, Settings};

/// Redirects in a row that are followed.
const REDIRECTS: usize = 5;

/// Bytes read from a file at once.
const CHUNK: usize = 256 * 1024;

/// What a request asks for, and how long the answer is.
#[derive(Clone, Debug)]
pub(crate) enum Wanted {
    /// The whole file, of a length that is not known beyond this bound.
    AtMost(u64),
    /// The whole file, of this length.
    Whole(u64),
    /// These bytes of a file of this length.
    Part { range: Range<u64>, length: u64 },
}

/// Makes requests. All its clones share connections, rate limit and counters.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    client: Client,
    patience: Patience,
    bucket: Option<Arc<Bucket>>,
    received: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

/// What every request goes by: the settings alone, not the environment.
fn client(settings: &Settings) -> Result<ClientBuilder, FetchError> {
    let client = Client::builder()
        .tls_backend_preconfigured(tls(&settings.certificates)?)
        .dns_resolver(Arc::new(Resolver))
        .referer(false)
        .http1_only()
        .connect_timeout(settings.patience.connect)
        .pool_max_idle_per_host(settings.connections.max(1))
        .user_agent(concat!("wherry-updater/", env!("CARGO_PKG_VERSION")))
        .no_proxy();
    let Some(proxy) = &settings.proxy else {
        return Ok(client);
    };
    let http = Url::parse(proxy).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
    if !http {
        let why = "has to be http://[user:password@]host:port".to_owned();
        return Err(refuse("proxy", why));
    }
    let proxy = Proxy::all(proxy).map_err(|error| refuse("proxy", chain(&error)))?;
    Ok(client.proxy(proxy))
}

fn refuse(what: &str, why: String) -> FetchError {
    FetchError::Setting {
        what: what.to_owned(),
        why,
    }
}

/// A client for other requests that go by the same settings: proxy, certificates,
/// name resolution. It follows no redirection.
///
/// # Errors
/// A setting cannot be used.
pub fn http_client(settings: &Settings) -> Result<Client, FetchError> {
    client(settings)?
        .redirect(Policy::none())
        .build()
        .map_err(|error| refuse("the settings for HTTP", chain(&error)))
}

impl Transport {
    pub(crate) fn new(settings: &Settings) -> Result<Self, FetchError> {
        let client = client(settings)?.redirect(Policy::custom(redirect));
        Ok(Self {
            client: client
                .build()
                .map_err(|error| refuse("the settings for HTTP", chain(&error)))?,
            patience: settings.patience,
            bucket: settings.rate_limit.map(|rate| Arc::new(Bucket::new(rate))),
            received: Arc::default(),
            requests: Arc::default(),
        })
    }

    /// Bytes of all bodies so far.
    pub(crate) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Requests so far.
    pub(crate) fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Asks `address` for `wanted`.
    pub(crate) async fn get(&self, address: &Address, wanted: Wanted) -> Result<Body, Failure> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        let answer = match address {
            Address::Http(url) => self.ask(url, &wanted).await,
            Address::Folder(path) => open(path, &wanted),
        };
        let (source, left, exact, whole) = answer.map_err(|fault| Failure {
            address: address.shown(),
            fault,
        })?;
        Ok(Body {
            transport: self.clone(),
            address: address.shown(),
            source,
            left,
            length: left,
            exact,
            whole,
            waited: Duration::ZERO,
            since: 0,
        })
    }

    async fn ask(&self, url: &Url, wanted: &Wanted) -> Result<Answer, Fault> {
        let mut request = self
            .client
            .get(url.clone())
            .header(ACCEPT_ENCODING, "identity");
        if let Wanted::Part { range, .. } = wanted {
            let last = range.end.saturating_sub(1);
            request = request.header(RANGE, format!("bytes={}-{last}", range.start));
        }
        let patience = self.patience.connect + self.patience.idle;
        let response = timeout(patience, request.send())
            .await
            .map_err(|_| Fault::Stalled(patience.as_secs()))?
            .map_err(fault)?;
        let status = response.status();
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
            return Err(Fault::Encoded(encoding));
        }
        match (status, wanted) {
            (StatusCode::OK, Wanted::AtMost(bound)) => {
                if response
                    .content_length()
                    .is_some_and(|given| given > *bound)
                {
                    return Err(Fault::Long { expected: *bound });
                }
                Ok((Source::Http(response), *bound, false, true))
            }
            (StatusCode::OK, Wanted::Whole(length) | Wanted::Part { length, .. }) => {
                self.check_length(&response, *length)?;
                Ok((Source::Http(response), *length, true, true))
            }
            (StatusCode::PARTIAL_CONTENT, Wanted::Part { range, length }) => {
                check_range(&response, range, *length)?;
                let length = range.end - range.start;
                self.check_length(&response, length)?;
                Ok((Source::Http(response), length, true, false))
            }
            (StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN, _) => {
                Err(Fault::NotFound)
            }
            // One that the client would not even try.
            _ if status.is_redirection() => {
                let to = response.headers().get(LOCATION);
                let to = to.map_or_else(Default::default, |to| {
                    String::from_utf8_lossy(to.as_bytes())
                });
                Err(Fault::Redirect(format!("to '{to}'")))
            }
            _ => Err(Fault::Status(status.as_u16())),
        }
    }

    fn check_length(&self, response: &Response, expected: u64) -> Result<(), Fault> {
        match response.content_length() {
            Some(got) if got < expected => Err(Fault::Short { got, expected }),
            Some(got) if got > expected => Err(Fault::Long { expected }),
            _ => Ok(()),
        }
    }
}

/// Where a body comes from, how long it is, whether exactly so, and whether it is
/// the whole file.
type Answer = (Source, u64, bool, bool);

#[derive(Debug)]
enum Source {
    Http(Response),
    File {
        file: File,
        offset: u64,
        /// Takes its memory back when the bytes that were given out are done with.
        buffer: BytesMut,
    },
}

/// The body of an answer.
#[derive(Debug)]
pub(crate) struct Body {
    transport: Transport,
    address: String,
    source: Source,
    left: u64,
    length: u64,
    exact: bool,
    /// It is the whole file, although a part may have been asked for: the server
    /// knows no ranges.
    pub(crate) whole: bool,
    /// How long the server has been waited for since the rate was last looked at,
    /// and what came in that time.
    waited: Duration,
    since: u64,
}

impl Body {
    /// The next bytes; `None` at the end. An endless body ends where it should.
    pub(crate) async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.next().await.map_err(|fault| Failure {
            address: self.address.clone(),
            fault,
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.left == 0 && self.exact {
            self.give_back().await;
            return Ok(None);
        }
        let chunk = match &mut self.source {
            Source::Http(response) => {
                let patience = self.transport.patience;
                let begun = Instant::now();
                let chunk = timeout(patience.idle, response.chunk())
                    .await
                    .map_err(|_| Fault::Stalled(patience.idle.as_secs()))?
                    .map_err(fault)?;
                self.waited += begun.elapsed();
                self.since += chunk.as_ref().map_or(0, Bytes::len) as u64;
                if self.waited >= patience.window {
                    let rate = (self.since as f64 / self.waited.as_secs_f64()) as u64;
                    if rate < patience.least_rate {
                        return Err(Fault::Slow(rate));
                    }
                    (self.waited, self.since) = (Duration::ZERO, 0);
                }
                chunk
            }
            Source::File {
                file,
                offset,
                buffer,
            } => {
                let length = self.left.min(CHUNK as u64) as usize;
                let chunk = read(file, *offset, length, buffer)?;
                *offset += chunk.len() as u64;
                // Reading does not wait, so others get their turn here.
                tokio::task::yield_now().await;
                (!chunk.is_empty()).then_some(chunk)
            }
        };
        let Some(mut chunk) = chunk else {
            if self.exact {
                return Err(Fault::Short {
                    got: self.length - self.left,
                    expected: self.length,
                });
            }
            return Ok(None);
        };
        if chunk.len() as u64 > self.left {
            if !self.exact {
                return Err(Fault::Long {
                    expected: self.length,
                });
            }
            chunk.truncate(self.left as usize);
        }
        self.left -= chunk.len() as u64;
        self.transport
            .received
            .fetch_add(chunk.len() as u64, Ordering::Relaxed);
        if let Some(bucket) = &self.transport.bucket {
            bucket.spend(chunk.len()).await;
        }
        Ok(Some(chunk))
    }

    /// A connection can serve the next request only when its body's end was seen.
    /// With a known length it is there already; otherwise nobody waits for it.
    async fn give_back(&mut self) {
        if let Source::Http(response) = &mut self.source {
            let _ = timeout(Duration::ZERO, response.chunk()).await;
        }
    }

    /// What came is not what was signed.
    pub(crate) fn wrong(&self, what: String) -> Failure {
        Failure {
            address: self.address.clone(),
            fault: Fault::Wrong(what),
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

fn open(path: &std::path::Path, wanted: &Wanted) -> Result<Answer, Fault> {
    let broken = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::NotFound => Fault::NotFound,
        _ => Fault::Broken(error.to_string()),
    };
    // A pipe on the stick must not hold the updater up.
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
    let (offset, left, exact) = match wanted {
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
    let whole = !matches!(wanted, Wanted::Part { .. });
    let source = Source::File {
        file,
        offset,
        buffer: BytesMut::new(),
    };
    Ok((source, left, exact, whole))
}

fn read(file: &File, offset: u64, length: usize, buffer: &mut BytesMut) -> Result<Bytes, Fault> {
    buffer.resize(length, 0);
    let got = file
        .read_at(buffer, offset)
        .map_err(|error| Fault::Broken(error.to_string()))?;
    buffer.truncate(got);
    Ok(buffer.split().freeze())
}

fn check_range(response: &Response, range: &Range<u64>, length: u64) -> Result<(), Fault> {
    let header = response.headers().get(CONTENT_RANGE);
    let got = header.map_or_else(
        || "none given".to_owned(),
        |value| String::from_utf8_lossy(value.as_bytes()).into_owned(),
    );
    let place = format!("bytes {}-{}/", range.start, range.end.saturating_sub(1));
    match got.strip_prefix(&place) {
        Some(total) if total == "*" || total.parse() == Ok(length) => Ok(()),
        _ => Err(Fault::Range {
            asked: format!("{place}{length}"),
            got,
        }),
    }
}

fn redirect(attempt: reqwest::redirect::Attempt<'_>) -> reqwest::redirect::Action {
    match may_follow(attempt.previous(), attempt.url()) {
        Ok(()) => attempt.follow(),
        Err(why) => attempt.error(why),
    }
}

/// Whether a redirect to `next` is followed. One that would take what was asked
/// for safely over a line that anybody can read is not.
fn may_follow(previous: &[Url], next: &Url) -> Result<(), String> {
    let was_safe = previous.iter().any(|url| url.scheme() == "https");
    match next.scheme() {
        _ if previous.len() > REDIRECTS => Err(format!("more than {REDIRECTS} in a row")),
        "https" => Ok(()),
        "http" if !was_safe => Ok(()),
        "http" => Err(format!("from https to {next}")),
        _ => Err(format!("to {next}")),
    }
}

fn fault(error: reqwest::Error) -> Fault {
    let error = error.without_url();
    let why = std::error::Error::source(&error).map_or_else(|| error.to_string(), chain);
    if error.is_redirect() {
        Fault::Redirect(why)
    } else if error.is_connect() || error.is_timeout() {
        Fault::Connect(why)
    } else {
        Fault::Broken(why)
    }
}

/// An error with its sources, without those that only repeat what was said.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        source = error.source();
    }
    text
}

fn tls(certificates: &[u8]) -> Result<ClientConfig, FetchError> {
    let refuse = |why: String| FetchError::Setting {
        what: "certificates".to_owned(),
        why,
    };
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(webpki_root_certs::TLS_SERVER_ROOT_CERTS.iter().cloned());
    let mut given = 0;
    for certificate in CertificateDer::pem_slice_iter(certificates) {
        let certificate = certificate.map_err(|error| refuse(error.to_string()))?;
        roots
            .add(certificate)
            .map_err(|error| refuse(error.to_string()))?;
        given += 1;
    }
    if given == 0 && !certificates.is_empty() {
        return Err(refuse("no certificate in the PEM text".to_owned()));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| refuse(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn redirects_do_not_go_from_safe_to_unsafe_nor_on_for_ever() {
        let urls = |texts: &[&str]| -> Vec<Url> {
            texts.iter().map(|text| Url::parse(text).unwrap()).collect()
        };
        let follow =
            |previous: &[&str], next: &str| may_follow(&urls(previous), &Url::parse(next).unwrap());
        assert_eq!(follow(&["http://a"], "http://b"), Ok(()));
        assert_eq!(follow(&["http://a"], "https://b"), Ok(()));
        assert_eq!(follow(&["https://a"], "https://b"), Ok(()));
        assert!(follow(&["https://a"], "http://b").is_err());
        assert!(follow(&["https://a", "https://b"], "http://c").is_err());
        assert!(follow(&["http://a"], "file:///etc/passwd").is_err());
        assert!(follow(&["http://a"; 6], "http://b").is_err());
    }
}
