//! Requests and their answers' heads.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use reqwest::header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_RANGE, LOCATION, RANGE};
use reqwest::{Proxy, Response, StatusCode};
use tokio::time::timeout;
use url::Url;

use crate::fault::chain;
use crate::rate::Bucket;
use crate::resolver::Resolver;
use crate::{Body, Failure, Fault, Patience, SettingError, Settings, redirect, shown, tls};

/// What a request asks for, and how long the answer is.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// The whole file, of a length that is not known beyond this bound.
    AtMost(u64),
    /// The whole file, of this length.
    Whole(u64),
    /// Some bytes of a file.
    Part {
        /// Which; not empty.
        range: Range<u64>,
        /// The whole file's length.
        length: u64,
    },
}

/// How long the answer to a request that sends something may take, and how much
/// of it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// From the first byte sent to the last one read.
    pub time: Duration,
    /// Bytes of the body that are read; what follows is left unread.
    pub length: usize,
}

/// The answer to a request that sent something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP's status.
    pub status: u16,
    /// The body, as far as it was read.
    pub body: Vec<u8>,
}

/// Makes requests. All its clones share connections, rate limit and counters.
#[derive(Clone, Debug)]
pub struct Client {
    client: reqwest::Client,
    pub(crate) patience: Patience,
    bucket: Option<Arc<Bucket>>,
    received: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

impl Client {
    /// A client that uses only the settings, not the environment.
    ///
    /// # Errors
    /// A setting cannot be used.
    pub fn new(settings: &Settings) -> Result<Self, SettingError> {
        let refuse = |what, why| SettingError { what, why };
        let mut client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls::config(&settings.certificates)?)
            .dns_resolver(Arc::new(Resolver))
            .redirect(redirect::policy(settings.redirects))
            .referer(false)
            .http1_only()
            .connect_timeout(settings.patience.connect)
            .pool_max_idle_per_host(settings.connections.max(1))
            .user_agent(&settings.user_agent)
            .no_proxy();
        if let Some(proxy) = &settings.proxy {
            let http = Url::parse(proxy).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
            if !http {
                let why = "has to be http://[user:password@]host:port".to_owned();
                return Err(refuse("proxy", why));
            }
            client =
                client.proxy(Proxy::all(proxy).map_err(|error| refuse("proxy", chain(&error)))?);
        }
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

    /// Bytes of all bodies so far, and of what else was counted
    /// ([`Client::count`]).
    pub fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Requests so far, and what else was counted ([`Client::count_request`]).
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Counts received bytes, and waits for the rate limit. Bodies do this
    /// themselves; this is for other transfers under the same limit.
    pub async fn count(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Ordering::Relaxed);
        if let Some(bucket) = &self.bucket {
            bucket.spend(bytes).await;
        }
    }

    /// Counts a request made by other means.
    pub fn count_request(&self) {
        self.requests.fetch_add(1, Ordering::Relaxed);
    }

    /// Asks `url` for `wanted`.
    ///
    /// # Errors
    /// The answer does not match the request, or is late.
    pub async fn get(&self, url: &Url, wanted: &Wanted) -> Result<Body, Failure> {
        self.count_request();
        self.ask(url, wanted).await.map_err(|fault| Failure {
            address: shown(url),
            fault,
        })
    }

    async fn ask(&self, url: &Url, wanted: &Wanted) -> Result<Body, Fault> {
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
            .map_err(Fault::of)?;
        let status = response.status();
        if let Some(encoding) = response.headers().get(CONTENT_ENCODING)
            && encoding != "identity"
        {
            let encoding = String::from_utf8_lossy(encoding.as_bytes()).into_owned();
            return Err(Fault::Encoded(encoding));
        }
        let (length, is_exact, is_whole) = match (status, wanted) {
            (StatusCode::OK, Wanted::AtMost(bound)) => {
                if response
                    .content_length()
                    .is_some_and(|given| given > *bound)
                {
                    return Err(Fault::Long { expected: *bound });
                }
                (*bound, false, true)
            }
            (StatusCode::OK, Wanted::Whole(length) | Wanted::Part { length, .. }) => {
                check_length(&response, *length)?;
                (*length, true, true)
            }
            (StatusCode::PARTIAL_CONTENT, Wanted::Part { range, length }) => {
                check_range(&response, range, *length)?;
                let length = range.end.saturating_sub(range.start);
                check_length(&response, length)?;
                (length, true, false)
            }
            (StatusCode::NOT_FOUND | StatusCode::GONE | StatusCode::FORBIDDEN, _) => {
                return Err(Fault::NotFound);
            }
            // A redirect that the client would refuse.
            _ if status.is_redirection() => {
                let to = response.headers().get(LOCATION);
                let to = to.map_or_else(Default::default, |to| {
                    String::from_utf8_lossy(to.as_bytes())
                });
                return Err(Fault::Redirect(format!("to '{to}'")));
            }
            _ => return Err(Fault::Status(status.as_u16())),
        };
        Ok(Body::new(
            self.clone(),
            shown(url),
            response,
            length,
            is_exact,
            is_whole,
        ))
    }

    /// Sends `body` to `url`; the answer is given whatever its status is.
    ///
    /// # Errors
    /// There is no answer, or it does not come in time.
    pub async fn post(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        body: String,
        bounds: Bounds,
    ) -> Result<Answer, Failure> {
        self.count_request();
        let answer = async {
            let mut request = self.client.post(url.clone()).body(body);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let mut response = request.send().await.map_err(Fault::of)?;
            let status = response.status().as_u16();
            let mut body = Vec::new();
            while body.len() < bounds.length {
                let Some(chunk) = response.chunk().await.map_err(Fault::of)? else {
                    break;
                };
                let rest = bounds.length - body.len();
                body.extend_from_slice(&chunk[..chunk.len().min(rest)]);
            }
            Ok(Answer { status, body })
        };
        timeout(bounds.time, answer)
            .await
            .unwrap_or(Err(Fault::Late(bounds.time.as_secs())))
            .map_err(|fault| Failure {
                address: shown(url),
                fault,
            })
    }
}

fn check_length(response: &Response, expected: u64) -> Result<(), Fault> {
    match response.content_length() {
        Some(got) if got < expected => Err(Fault::Short { got, expected }),
        Some(got) if got > expected => Err(Fault::Long { expected }),
        _ => Ok(()),
    }
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
