//! A disk that the machine's actions change, and a machine that boots from it.

use std::str::FromStr;

use release::{RootHash, Sha256Sum, Version};

use crate::{
    Action, Entry, GUARD, Label, Proof, SlotId, SlotView, Staged, Target, Tries, View,
    loader_choice,
};

pub const UKI_LENGTH: u64 = 10 << 20;
const ESP: u64 = 40 << 20;
const LOADER: &str = "257";

pub fn version(text: &str) -> Version {
    Version::from_str(text).unwrap()
}

/// Release number `n`: version `n.0`, with its own root and kernel image.
pub fn hash(n: u8) -> RootHash {
    RootHash([n; 32])
}

pub fn target(n: u8) -> Target {
    Target {
        version: version(&format!("{n}.0")),
        root_hash: hash(n),
        data_length: 1 << 20,
        tree_length: 1 << 16,
        uki: Sha256Sum([n; 32]),
        uki_length: UKI_LENGTH,
        loader_version: version(if n > 2 { "258" } else { LOADER }),
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot {
    /// The label's release; 0: `_empty`.
    pub label: u8,
    /// The ids' release; 0: none.
    pub ids: u8,
    /// The release that it holds completely; 0: none.
    pub content: u8,
    /// What the program knows of it in this run.
    known: Known,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Known {
    Nothing,
    Whole,
    Damaged,
}

/// The disk, and which release runs.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Model {
    pub slots: [Slot; 2],
    /// (release, tries) by number.
    pub entries: Vec<(u8, Option<Tries>)>,
    /// Release whose kernel image is staged; 255: a part of one.
    staged: Option<u8>,
    loader: u16,
    pub booted: u8,
}

/// A part of a kernel image.
const PART: u8 = 255;

impl Model {
    /// A machine fresh from its image: release 1 in slot A.
    pub fn installed() -> Self {
        let slot = |release| Slot {
            label: release,
            ids: release,
            content: release,
            known: Known::Nothing,
        };
        Self {
            slots: [slot(1), slot(0)],
            entries: vec![(1, None)],
            staged: None,
            loader: 257,
            booted: 1,
        }
    }

    /// A machine that runs release `n` and has been updated to it from `old`.
    pub fn updated(old: u8, n: u8) -> Self {
        let mut model = Self::installed();
        for (slot, release) in [(0, old), (1, n)] {
            model.slots[slot] = Slot {
                label: release,
                ids: release,
                content: release,
                known: Known::Nothing,
            };
        }
        model.entries = vec![(old, None), (n, Some(Tries::fresh(GUARD)))];
        model.booted = n;
        model
    }

    pub fn view(&self) -> View {
        let entries: Vec<Entry> = self
            .entries
            .iter()
            .map(|(release, tries)| Entry {
                file: name(*release, *tries),
                version: version(&format!("{release}.0")),
                tries: *tries,
                length: UKI_LENGTH,
                root_hash: Some(hash(*release)),
            })
            .collect();
        let staged = self.staged.map(|release| Staged {
            length: UKI_LENGTH,
            sha256: Sha256Sum([release; 32]),
        });
        let used = (entries.len() + usize::from(staged.is_some())) as u64 * UKI_LENGTH;
        View {
            booted: Some(hash(self.booted)),
            slots: self.slots.clone().map(|slot| SlotView {
                label: match slot.label {
                    0 => Label::Empty,
                    release => Label::Release(version(&format!("{release}.0"))),
                },
                data_id: hash(slot.ids).data_id(),
                tree_id: hash(slot.ids).tree_id(),
                data_length: 1 << 20,
                tree_length: 1 << 16,
                proof: match slot.known {
                    Known::Nothing => Proof::Unknown,
                    Known::Damaged => Proof::Damaged,
                    Known::Whole => Proof::Whole(hash(slot.content)),
                },
            }),
            entries,
            staged,
            esp_free: ESP.saturating_sub(used),
            loader: Some(version(&self.loader.to_string())),
        }
    }

    /// Does an action for the release `wanted`. Returns what a power cut within
    /// it could leave behind beside the state before and the state after.
    pub fn perform(&mut self, action: &Action, wanted: u8) -> Vec<Self> {
        let mut between = Vec::new();
        match action {
            Action::RemoveEntry { file } => {
                self.entries
                    .retain(|(release, tries)| name(*release, *tries) != *file);
            }
            Action::RemoveStaged => self.staged = None,
            Action::EmptySlot { slot } => {
                self.not_running(*slot);
                let slot = &mut self.slots[slot.index()];
                (slot.label, slot.ids) = (0, 0);
            }
            Action::FillSlot { slot } => {
                self.not_running(*slot);
                let at = slot.index();
                self.slots[at].content = 0;
                self.slots[at].known = Known::Nothing;
                between.push(self.clone());
                self.slots[at].content = wanted;
                self.slots[at].known = Known::Whole;
            }
            Action::ProveSlot { slot } => {
                let slot = &mut self.slots[slot.index()];
                slot.known = if slot.content == slot.ids {
                    Known::Whole
                } else {
                    Known::Damaged
                };
            }
            Action::NameSlot { slot, .. } => {
                self.not_running(*slot);
                let slot = &mut self.slots[slot.index()];
                (slot.label, slot.ids) = (wanted, wanted);
            }
            Action::UpdateLoader => self.loader = 258,
            Action::StageUki => {
                assert_eq!(self.staged, None, "a staged kernel image is overwritten");
                self.staged = Some(PART);
                between.push(self.clone());
                self.staged = Some(wanted);
            }
            Action::PublishUki { file } => {
                assert_eq!(
                    self.staged,
                    Some(wanted),
                    "the published image is the target's"
                );
                let tries = Tries::fresh(crate::TRIES);
                assert_eq!(*file, name(wanted, Some(tries)));
                self.staged = None;
                self.entries.push((wanted, Some(tries)));
            }
            Action::RenameEntry { from, to } => {
                let at = self
                    .entries
                    .iter()
                    .position(|(release, tries)| name(*release, *tries) == *from)
                    .unwrap();
                let release = self.entries[at].0;
                let tries = to
                    .strip_prefix(&format!("wherry_{release}.0"))
                    .and_then(|rest| rest.strip_suffix(".efi"))
                    .unwrap();
                let renamed = (release, tries.parse().ok());
                // Both names may exist for a moment.
                let mut both = self.clone();
                both.entries.push(renamed);
                both.tidy();
                between.push(both);
                self.entries[at] = renamed;
            }
        }
        self.tidy();
        between
    }

    /// A folder has each name once.
    fn tidy(&mut self) {
        self.entries.sort_unstable();
        self.entries.dedup();
    }

    fn not_running(&self, slot: SlotId) {
        assert_ne!(
            self.slots[slot.index()].ids,
            self.booted,
            "the running slot is changed"
        );
    }

    /// Boots the machine: the loader counts tries and chooses until an entry
    /// boots. `None`: the machine is bricked.
    pub fn boot(&self) -> Option<Self> {
        let mut machine = self.clone();
        for slot in &mut machine.slots {
            slot.known = Known::Nothing;
        }
        for _ in 0..100 {
            let entries = machine.view().entries;
            let choice = loader_choice(&entries)?;
            let at = entries.iter().position(|entry| entry == choice)?;
            let (release, tries) = machine.entries[at];
            let counted = tries.filter(|tries| tries.left > 0);
            if let Some(Tries { left, done }) = counted {
                machine.entries[at].1 = Some(Tries {
                    left: left - 1,
                    done: done + 1,
                });
                machine.tidy();
            }
            let is_whole = machine
                .slots
                .iter()
                .any(|slot| slot.ids == release && slot.content == release);
            if is_whole {
                machine.booted = release;
                return Some(machine);
            }
            counted?;
        }
        None
    }
}

fn name(release: u8, tries: Option<Tries>) -> String {
    let tries = tries.map(|tries| tries.to_string()).unwrap_or_default();
    format!("wherry_{release}.0{tries}.efi")
}
