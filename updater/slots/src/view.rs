//! The current state of the disk.

use std::cmp::Ordering;

use layout::entry::Tries;
use layout::partition::{Label, SlotId};
use release::{RootHash, Sha256Sum, Version};

/// A file of ours in `EFI/Linux` on the ESP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name, such as `wherry_2.0+3-0.efi`.
    pub file: String,
    /// The version in its name.
    pub version: Version,
    /// The count in its name.
    pub tries: Option<Tries>,
    /// Its length in bytes.
    pub length: u64,
    /// The root that its command line names; `None` if it is not a complete
    /// unified kernel image.
    pub root_hash: Option<RootHash>,
}

impl Entry {
    /// Whether the loader prefers every other entry.
    pub fn is_bad(&self) -> bool {
        self.tries.is_some_and(|tries| tries.left == 0)
    }
}

/// What is known of a slot's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// It has not been read in this run, or has been written since.
    Unknown,
    /// All of it was read from the medium and has this root hash.
    Whole(RootHash),
    /// It was read and does not match its ids.
    Damaged,
}

/// A slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotView {
    /// Its partitions' label.
    pub label: Label,
    /// The data partition's PARTUUID, in the order of its text.
    pub data_id: [u8; 16],
    /// The tree partition's PARTUUID.
    pub tree_id: [u8; 16],
    /// The data partition's length in bytes.
    pub data_length: u64,
    /// The tree partition's length in bytes.
    pub tree_length: u64,
    /// What is known of its content.
    pub proof: Proof,
}

impl SlotView {
    /// Whether the kernel would find this release's root here.
    pub fn is_named(&self, root_hash: &RootHash) -> bool {
        self.data_id == root_hash.data_id() && self.tree_id == root_hash.tree_id()
    }
}

/// `EFI/Linux/wherry.new` on the ESP: a kernel image that is not an entry yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Staged {
    /// Its length in bytes.
    pub length: u64,
    /// The SHA-256 of its content.
    pub sha256: Sha256Sum,
}

/// The whole disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct View {
    /// The running root; `None` if it is not on this disk.
    pub booted: Option<RootHash>,
    /// Slot A and slot B.
    pub slots: [SlotView; 2],
    /// Every `wherry_*.efi`.
    pub entries: Vec<Entry>,
    /// The staged kernel image.
    pub staged: Option<Staged>,
    /// Bytes that are free on the ESP.
    pub esp_free: u64,
    /// systemd-boot's version: the older of its two copies. `None` if the ESP
    /// has none of ours.
    pub loader: Option<Version>,
}

/// systemd-boot's order of entries, the preferred one first
/// ([`layout::entry::preference`]). Of two equal ones, the later file name.
pub fn order(a: &Entry, b: &Entry) -> Ordering {
    layout::entry::preference((&a.version, a.tries), (&b.version, b.tries))
        .then_with(|| b.file.cmp(&a.file))
}

impl View {
    /// The slot of a release.
    pub fn slot_of(&self, root_hash: &RootHash) -> Option<SlotId> {
        SlotId::ALL
            .into_iter()
            .find(|slot| self.slots[slot.index()].is_named(root_hash))
    }

    /// The running release's slot.
    pub fn booted_slot(&self) -> Option<SlotId> {
        self.slot_of(self.booted.as_ref()?)
    }

    /// The running release's entry; the one that the loader prefers, where an
    /// interrupted renaming has left two.
    pub fn booted_entry(&self) -> Option<&Entry> {
        let booted = self.booted?;
        self.entries
            .iter()
            .filter(|entry| entry.root_hash == Some(booted))
            .min_by(|a, b| order(a, b))
    }

    /// The entries whose root is in a slot and is not the running one.
    pub fn others(&self) -> impl Iterator<Item = (&Entry, SlotId)> {
        self.entries.iter().filter_map(|entry| {
            let root_hash = entry.root_hash.as_ref()?;
            let slot = self.slot_of(root_hash)?;
            (self.booted.as_ref() != Some(root_hash)).then_some((entry, slot))
        })
    }
}
