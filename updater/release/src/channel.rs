//! The channel: the releases that are on offer, and to whom.

use serde::{Deserialize, Serialize};

use crate::Manifest;

/// A part of the fleet, from a moment on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Wave {
    /// How many of a hundred machines may take the release then, the waves before
    /// included.
    pub percent: u8,
    /// From when on (RFC 3339).
    pub start: String,
}

/// A release on offer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Offer {
    /// The release.
    pub manifest: Manifest,
    /// Who may take it when, ascending; empty: everyone at once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waves: Vec<Wave>,
    /// Why nobody takes it any more, where the operator has stopped it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub halted: Option<String>,
}

/// A channel, as it is signed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// The format's number, 1.
    pub format: u32,
    /// The channel's name.
    pub name: String,
    /// Further addresses with the same files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mirrors: Vec<String>,
    /// The releases, in no particular order.
    pub offers: Vec<Offer>,
}
