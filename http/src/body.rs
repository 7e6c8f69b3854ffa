//! The body of an answer.

use std::time::Duration;

use bytes::Bytes;
use reqwest::Response;
use tokio::time::{Instant, timeout};

use crate::{Client, Failure, Fault};

/// The body of an answer: never too long, and an error if it is too short,
/// stalls or drips.
#[derive(Debug)]
pub struct Body {
    client: Client,
    address: String,
    response: Response,
    /// Bytes that may still come, of `length`.
    left: u64,
    length: u64,
    /// They have to.
    is_exact: bool,
    is_whole: bool,
    /// How long the server has been waited for since the rate was last looked at,
    /// and what came in that time.
    waited: Duration,
    since: u64,
}

impl Body {
    pub(crate) fn new(
        client: Client,
        address: String,
        response: Response,
        length: u64,
        is_exact: bool,
        is_whole: bool,
    ) -> Self {
        Self {
            client,
            address,
            response,
            left: length,
            length,
            is_exact,
            is_whole,
            waited: Duration::ZERO,
            since: 0,
        }
    }

    /// Whether it is the whole file, although a part may have been asked for: the
    /// server does not support ranges.
    pub fn is_whole(&self) -> bool {
        self.is_whole
    }

    /// The next bytes; `None` at the end. An endless body ends where it should.
    ///
    /// # Errors
    /// The body is too short or too long, stalls, drips, or breaks off.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, Failure> {
        self.next().await.map_err(|fault| Failure {
            address: self.address.clone(),
            fault,
        })
    }

    async fn next(&mut self) -> Result<Option<Bytes>, Fault> {
        if self.left == 0 && self.is_exact {
            self.give_back().await;
            return Ok(None);
        }
        let patience = self.client.patience;
        let begun = Instant::now();
        let chunk = timeout(patience.idle, self.response.chunk())
            .await
            .map_err(|_| Fault::Stalled(patience.idle.as_secs()))?
            .map_err(Fault::of)?;
        self.waited += begun.elapsed();
        self.since += chunk.as_ref().map_or(0, Bytes::len) as u64;
        if self.waited >= patience.window {
            let rate = (self.since as f64 / self.waited.as_secs_f64()) as u64;
            if rate < patience.least_rate {
                return Err(Fault::Slow(rate));
            }
            (self.waited, self.since) = (Duration::ZERO, 0);
        }
        let Some(mut chunk) = chunk else {
            if self.is_exact {
                return Err(Fault::Short {
                    got: self.length - self.left,
                    expected: self.length,
                });
            }
            return Ok(None);
        };
        if chunk.len() as u64 > self.left {
            if !self.is_exact {
                return Err(Fault::Long {
                    expected: self.length,
                });
            }
            chunk.truncate(self.left as usize);
        }
        self.left -= chunk.len() as u64;
        self.client.count(chunk.len()).await;
        Ok(Some(chunk))
    }

    /// A connection can serve the next request only when its body's end was seen.
    /// With a known length it is there already; otherwise it is not waited for.
    async fn give_back(&mut self) {
        let _ = timeout(Duration::ZERO, self.response.chunk()).await;
    }

    /// The body is not what the caller expects.
    pub fn wrong(&self, what: String) -> Failure {
        Failure {
            address: self.address.clone(),
            fault: Fault::Wrong(what),
        }
    }

    /// All of it.
    ///
    /// # Errors
    /// As [`Body::chunk`].
    pub async fn all(mut self) -> Result<Vec<u8>, Failure> {
        let mut all = Vec::new();
        while let Some(chunk) = self.chunk().await? {
            all.extend_from_slice(&chunk);
        }
        Ok(all)
    }
}
