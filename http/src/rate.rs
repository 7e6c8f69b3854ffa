//! The rate limit: a token bucket for all connections together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The bucket. It may be overdrawn by what has already arrived: bytes that are
/// here are used, and the wait comes before the next ones.
#[derive(Debug)]
pub(crate) struct Bucket {
    rate: f64,
    /// When everything taken so far is paid for.
    paid: Mutex<Option<Instant>>,
}

/// How much of the limit may be taken at once after a pause.
const BURST: Duration = Duration::from_millis(250);

impl Bucket {
    pub(crate) fn new(rate: u64) -> Self {
        Self {
            rate: rate.max(1) as f64,
            paid: Mutex::new(None),
        }
    }

    /// Takes `bytes` at `now`; the wait until the next ones may be taken.
    fn take(&self, bytes: usize, now: Instant) -> Duration {
        let mut paid = self.paid.lock().unwrap_or_else(PoisonError::into_inner);
        let from = paid.unwrap_or(now).max(now);
        let until = from + Duration::from_secs_f64(bytes as f64 / self.rate);
        *paid = Some(until);
        (until - now).saturating_sub(BURST)
    }

    pub(crate) async fn spend(&self, bytes: usize) {
        let wait = self.take(bytes, Instant::now());
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn over_time_no_more_is_taken_than_the_limit_allows() {
        let bucket = Bucket::new(1000);
        let start = Instant::now();
        let mut now = start;
        for _ in 0..100 {
            now += bucket.take(500, now);
        }
        let seconds = (now - start).as_secs_f64();
        assert!((49.0..=50.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_pause_saves_nothing_up() {
        let bucket = Bucket::new(1000);
        let start = Instant::now();
        bucket.take(1000, start);
        let later = start + Duration::from_secs(3600);
        assert_eq!(bucket.take(1000, later), Duration::from_millis(750));
    }
}
