//! Why nothing is done.

use std::fmt;

use crate::SlotId;

/// Why the goal cannot be reached. Nothing has been changed for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The running root is in neither slot.
    NotFromSlot,
    /// The ESP has no entry of the running release.
    NoEntry,
    /// The running release has not proved itself.
    OnTrial,
    /// The release is larger than the slot.
    SlotTooSmall {
        /// The slot.
        slot: SlotId,
        /// Which partition of it.
        partition: &'static str,
        /// Its length in bytes.
        length: u64,
        /// What is needed.
        needed: u64,
    },
    /// The ESP is full, whatever may be removed from it.
    EspFull {
        /// Bytes that are or could be free.
        available: u64,
        /// What is needed.
        needed: u64,
    },
    /// There is no other release to go back to.
    NoOther,
    /// The other release's slot is damaged.
    OtherDamaged {
        /// Its slot.
        slot: SlotId,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFromSlot => f.write_str(
                "the running root is in neither slot of this disk: boot a release from one",
            ),
            Self::NoEntry => f.write_str(
                "the running release has no boot entry on the ESP, so that nothing would boot \
                 if an update failed: install the running version first",
            ),
            Self::OnTrial => f.write_str(
                "the running release is on trial: it is blessed once it has been healthy for \
                 its time, or gives way; then try again",
            ),
            Self::SlotTooSmall {
                slot,
                partition,
                length,
                needed,
            } => write!(
                f,
                "the {partition} partition of slot {slot} has {length} bytes and the release \
                 needs {needed}: this disk needs a larger layout (install anew)"
            ),
            Self::EspFull { available, needed } => write!(
                f,
                "the ESP has room for {available} bytes and the release's kernel image needs \
                 {needed}: remove files that are not Wherry's from it"
            ),
            Self::NoOther => f.write_str("there is no other release on this disk to roll back to"),
            Self::OtherDamaged { slot } => write!(
                f,
                "the other release, in slot {slot}, is damaged: install a release into it first"
            ),
        }
    }
}

impl std::error::Error for Refusal {}
