//! What the machine remembers from one run to the next.

use jiff::Timestamp;
use release::Version;
use serde::{Deserialize, Serialize};

/// What decides besides the configuration and the channel. It is part of the
/// daemon's record on the disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// What runs.
    pub running: Version,
    /// What was tried here and did not prove itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<Failure>,
    /// Nothing newer than this is taken, and this as soon as it is offered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin: Option<Version>,
    /// Nothing is done until the operator resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// What the operator asked for by hand, until it runs or has failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wish: Option<Wish>,
}

/// A release that did not prove itself on this machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failure {
    /// Which.
    pub version: Version,
    /// What went wrong, for people.
    pub reason: String,
    /// When it was found.
    pub at: Timestamp,
    /// From when on it may be tried once more without being asked for. Only where
    /// the release itself need not be at fault: everything was healthy but the
    /// update server could not be reached. `None`: never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub again: Option<Timestamp>,
}

/// The operator's hold: no updates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Hold {
    /// Since when.
    pub since: Timestamp,
    /// When it ends by itself; `None`: when the operator resumes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// Why, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// What the operator of this machine asked for by hand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Wish {
    /// Which release; `None`: the newest that there is for this machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<Version>,
    /// Whether it may be older than what runs.
    #[serde(default)]
    pub allow_downgrade: bool,
    /// Whether the machine reboots as soon as the release is staged: outside of
    /// the windows and whatever the FleetLock server says.
    #[serde(default)]
    pub now: bool,
}

impl Standing {
    /// Of a machine about which nothing is remembered.
    pub fn new(running: Version) -> Self {
        Self {
            running,
            failed: Vec::new(),
            pin: None,
            hold: None,
            wish: None,
        }
    }

    /// The hold, where one is in force.
    pub fn held(&self, now: Timestamp) -> Option<&Hold> {
        self.hold
            .as_ref()
            .filter(|hold| hold.until.is_none_or(|until| now < until))
    }

    /// This release's latest failure here, if it is not to be retried.
    pub fn failure(&self, version: &Version, now: Timestamp) -> Option<&Failure> {
        self.failed
            .iter()
            .rev()
            .find(|failure| failure.version == *version)
            .filter(|failure| match failure.again {
                // One that is still to come: the clock was wrong then, and so is
                // the time from which on it may be tried.
                Some(again) => failure.at <= now && now < again,
                None => true,
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_noted_by_a_clock_in_the_future_is_not_waited_for() {
        let time = |text: &str| text.parse::<Timestamp>().unwrap();
        let version: Version = "2.0".parse().unwrap();
        let mut standing = Standing::new("1.0".parse().unwrap());
        standing.failed.push(Failure {
            version: version.clone(),
            reason: "server not reached".to_owned(),
            at: time("2099-01-01T00:00:00Z"),
            again: Some(time("2099-01-02T00:00:00Z")),
        });
        assert!(
            standing
                .failure(&version, time("2026-12-01T00:00:00Z"))
                .is_none()
        );
        assert!(
            standing
                .failure(&version, time("2099-01-01T12:00:00Z"))
                .is_some()
        );
        standing.failed[0].again = None;
        assert!(
            standing
                .failure(&version, time("2026-12-01T00:00:00Z"))
                .is_some()
        );
    }
}
