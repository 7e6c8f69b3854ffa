//! What a client may ask.

use serde::{Deserialize, Serialize};

/// When the machine restarts into what was installed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reboot {
    /// At once, whatever windows and locks say.
    Now,
    /// When the policy allows it.
    #[default]
    Policy,
    /// Not by the updater: whoever asked does it.
    Never,
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Asks the repositories what there is: [`crate::Reply::Checked`].
    Check,
    /// Installs a release: [`crate::Reply::Applied`].
    Apply {
        /// Which; without one, the one that the policy takes. A release that has
        /// failed before is tried again when it is named.
        #[serde(default)]
        version: Option<String>,
        /// When to restart into it.
        #[serde(default)]
        reboot: Reboot,
        /// Whether an older release than the running one may be installed.
        #[serde(default)]
        allow_downgrade: bool,
    },
    /// How things stand: [`crate::Reply::Status`].
    Status,
    /// What was done, oldest first: [`crate::Reply::History`].
    History,
    /// Makes the release in the other slot the one that boots next.
    RollBack {
        /// When to restart into it.
        #[serde(default)]
        reboot: Reboot,
    },
    /// Takes only this release from now on.
    Pin {
        /// Its version.
        version: String,
    },
    /// Takes what the channel offers again.
    Unpin,
    /// Installs nothing by itself for a while.
    Hold {
        /// Until when (RFC 3339); without a time, until [`Request::Resume`].
        #[serde(default)]
        until: Option<String>,
        /// Why, for people.
        #[serde(default)]
        because: String,
    },
    /// Ends a hold.
    Resume,
}

impl Request {
    /// Whether the request changes nothing, so that any user may make it.
    pub fn is_read_only(&self) -> bool {
        match self {
            Self::Status | Self::History => true,
            Self::Check
            | Self::Apply { .. }
            | Self::RollBack { .. }
            | Self::Pin { .. }
            | Self::Unpin
            | Self::Hold { .. }
            | Self::Resume => false,
        }
    }
}
