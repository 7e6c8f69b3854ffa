//! Why a goal is refused.

use crate::SlotId;

/// Why the goal cannot be reached. Nothing has been changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The running root is in neither slot.
    #[error("the running root is in neither slot of this disk: boot a release from one")]
    NotFromSlot,
    /// The ESP has no entry of the running release.
    #[error(
        "the running release has no boot entry on the ESP, so that nothing would boot if an update \
         failed: install the running version first"
    )]
    NoEntry,
    /// The running release has not proved itself.
    #[error(
        "the running release is on trial: it is blessed once it has been healthy for its time, or \
         gives way; then try again"
    )]
    OnTrial,
    /// The release is larger than the slot.
    #[error(
        "the {partition} partition of slot {slot} has {length} bytes and the release needs \
         {needed}: this disk needs a larger layout (install again)"
    )]
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
    /// The ESP is full, even after removing what may be removed.
    #[error(
        "the ESP has room for {available} bytes and the release's kernel image needs {needed}: \
         remove files that are not Wherry's from it"
    )]
    EspFull {
        /// Bytes that are or could be free.
        available: u64,
        /// What is needed.
        needed: u64,
    },
    /// There is no other release to go back to.
    #[error("there is no other release on this disk to roll back to")]
    NoOther,
    /// The other release's slot is damaged.
    #[error("the other release, in slot {slot}, is damaged: install a release into it first")]
    OtherDamaged {
        /// Its slot.
        slot: SlotId,
    },
}
