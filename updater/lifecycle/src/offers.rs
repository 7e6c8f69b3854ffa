//! What the repositories offer, as far as it is known.

use release::{Channel, Version};

/// What is on offer, as far as it is known since the start.
#[derive(Clone, Debug)]
pub(crate) enum Offers {
    /// No repository was asked yet.
    Unasked,
    /// None has answered.
    Unknown,
    /// What the last check that worked has found.
    Known(Box<Channel>),
}

impl Offers {
    /// Why a staged release is not to be booted any more, as far as is known.
    pub(crate) fn withdrawn(&self, version: &Version) -> Option<String> {
        match self {
            Self::Known(channel) => policy::withdrawn(channel, version),
            Self::Unasked | Self::Unknown => None,
        }
    }

    pub(crate) fn asked_without_answer(&mut self) {
        if matches!(self, Self::Unasked) {
            *self = Self::Unknown;
        }
    }
}
