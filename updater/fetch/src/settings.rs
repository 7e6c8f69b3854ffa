//! Where to fetch from, with which limits and retries.

use http_client::{Patience, Retry};

/// What an operator can set. [`Settings::new`] has the usual values.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The repository's addresses, the preferred one first: `https://…`,
    /// `http://…`, `file:///…`, or the path of a folder.
    pub repositories: Vec<String>,
    /// A proxy for all requests over HTTP and HTTPS: `http://[user:password@]host:port`.
    pub proxy: Option<String>,
    /// Bytes a second at most, from all mirrors together.
    pub rate_limit: Option<u64>,
    /// Requests under way at the same time.
    pub connections: usize,
    /// Certificates (PEM) of authorities that are trusted besides the usual ones.
    pub certificates: Vec<u8>,
    /// When a server counts as stalled.
    pub patience: Patience,
    /// What follows a temporary failure.
    pub retry: Retry,
}

impl Settings {
    /// The usual values, for these repositories.
    pub fn new(repositories: Vec<String>) -> Self {
        Self {
            repositories,
            proxy: None,
            rate_limit: None,
            connections: 4,
            certificates: Vec::new(),
            patience: Patience::default(),
            retry: Retry::default(),
        }
    }

    /// The settings for requests to a server.
    pub fn http(&self) -> http_client::Settings {
        http_client::Settings {
            proxy: self.proxy.clone(),
            rate_limit: self.rate_limit,
            connections: self.connections,
            certificates: self.certificates.clone(),
            patience: self.patience,
            ..http_client::Settings::new(concat!("wherry-updater/", env!("CARGO_PKG_VERSION")))
        }
    }
}
