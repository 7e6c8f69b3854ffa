//! Whether other programs of the host wanted the processors during the runs.

use std::fs;
use std::time::Instant;

/// A moment, and how long some program had waited for a processor until then.
pub struct Pressure {
    at: Instant,
    waited: Option<f64>,
}

impl Pressure {
    /// Now.
    pub fn now() -> Self {
        let text = fs::read_to_string("/proc/pressure/cpu").unwrap_or_default();
        Self {
            at: Instant::now(),
            waited: waited(&text),
        }
    }

    /// The share of the time since then in which some program had to wait for a
    /// processor. Nothing on a host that does not count it.
    pub fn until_now(&self) -> Option<f64> {
        let now = Self::now();
        let waited = now.waited? - self.waited?;
        Some(waited / now.at.duration_since(self.at).as_secs_f64())
    }
}

/// Seconds, of `some avg10=0.00 avg60=0.00 avg300=0.00 total=MICROSECONDS`.
fn waited(text: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.starts_with("some "))?;
    let microseconds: f64 = line.split_once("total=")?.1.parse().ok()?;
    Some(microseconds / 1e6)
}

#[cfg(test)]
mod tests {
    use super::waited;

    #[test]
    fn the_total_is_read_in_seconds() {
        let text = "some avg10=1.00 avg60=0.50 avg300=0.10 total=2500000\nfull avg10=0 total=1\n";
        assert_eq!(waited(text), Some(2.5));
        assert_eq!(waited(""), None);
    }
}
