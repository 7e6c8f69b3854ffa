//! A client's settings.

use std::time::Duration;

/// A client's settings. [`Settings::new`] has the usual values.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the client calls itself, as `program/version`.
    pub user_agent: String,
    /// A proxy for all requests over HTTP and HTTPS: `http://[user:password@]host:port`.
    pub proxy: Option<String>,
    /// Bytes a second at most, over all connections together.
    pub rate_limit: Option<u64>,
    /// Connections to one server that are kept for further requests.
    pub connections: usize,
    /// Redirects in a row that are followed. With 0 a redirect is an answer.
    pub redirects: usize,
    /// Certificates (PEM) of authorities that are trusted besides the usual ones.
    pub certificates: Vec<u8>,
    /// When a server counts as stalled.
    pub patience: Patience,
}

impl Settings {
    /// The usual values, for a client of this name.
    pub fn new(user_agent: &str) -> Self {
        Self {
            user_agent: user_agent.to_owned(),
            proxy: None,
            rate_limit: None,
            connections: 4,
            redirects: 5,
            certificates: Vec::new(),
            patience: Patience::default(),
        }
    }
}

/// When a server counts as stalled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// A connection must be established within this time.
    pub connect: Duration,
    /// The next byte must come within this time.
    pub idle: Duration,
    /// The time over which `least_rate` is measured.
    pub window: Duration,
    /// Bytes a second that a server must send, so that one that drips a byte now
    /// and then does not hold up a request forever.
    pub least_rate: u64,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(15),
            idle: Duration::from_secs(20),
            window: Duration::from_secs(30),
            least_rate: 256,
        }
    }
}

/// Retries after a temporary failure: no connection, a broken one, a busy
/// server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Requests to one server that may fail in a row.
    pub attempts: u32,
    /// The wait after the first failure; each next one doubles it.
    pub first: Duration,
    /// The longest wait.
    pub longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            attempts: 5,
            first: Duration::from_millis(500),
            longest: Duration::from_secs(30),
        }
    }
}

impl Retry {
    /// The wait after the `failures`-th failure in a row. `jitter` (0 to 1) moves
    /// it within its upper half, so that a fleet does not come back in step.
    pub fn delay(&self, failures: u32, jitter: f64) -> Duration {
        let doubled = self.first.saturating_mul(
            1_u32
                .checked_shl(failures.saturating_sub(1))
                .unwrap_or(u32::MAX),
        );
        doubled
            .min(self.longest)
            .mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_longest() {
        let retry = Retry::default();
        let waits: Vec<u128> = [1, 2, 3, 6, 7, 8, 33, 1000]
            .map(|failures| retry.delay(failures, 1.0).as_millis())
            .to_vec();
        assert_eq!(
            waits,
            [500, 1000, 2000, 16_000, 30_000, 30_000, 30_000, 30_000]
        );
        assert_eq!(retry.delay(1, 0.0).as_millis(), 250);
    }
}
