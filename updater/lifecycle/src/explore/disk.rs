//! A disk on which the worker does what `slots` says, each action whole; what a
//! cut within an action leaves is explored in `slots`.

use release::{RootHash, Sha256Sum, Version};
use slots::{
    Action, Entry, Goal, Label, Proof, SlotView, Staged, Step, Target, Tries, View, loader_choice,
    next,
};

use crate::action::Extent;
use crate::event::Spent;

const UKI: u64 = 10 << 20;

pub fn version(n: u8) -> Version {
    format!("{n}.0").parse().unwrap()
}

/// Release number `n` has its own root.
pub fn hash(n: u8) -> RootHash {
    RootHash([n; 32])
}

pub fn number(hash: RootHash) -> u8 {
    hash.0[0]
}

fn target(n: u8) -> Target {
    Target {
        version: version(n),
        root_hash: hash(n),
        data_length: 1 << 20,
        tree_length: 1 << 16,
        uki: Sha256Sum([n; 32]),
        uki_length: UKI,
        loader_version: "257".parse().unwrap(),
    }
}

fn entry(n: u8, tries: Option<Tries>) -> Entry {
    let count = tries.map(|tries| tries.to_string()).unwrap_or_default();
    Entry {
        file: format!("wherry_{n}.0{count}.efi"),
        version: version(n),
        tries,
        length: UKI,
        root_hash: Some(hash(n)),
    }
}

/// The disk, and what of it is not what it says.
#[derive(Clone, Debug)]
pub struct Disk {
    pub view: View,
    /// The release that is damaged in its slot; 0: none.
    pub damaged: u8,
}

impl Disk {
    /// Release `booted` runs; the entries' releases are in the slots.
    pub fn new(booted: u8, entries: &[(u8, &str)]) -> Self {
        let slot = |n: Option<&(u8, &str)>| SlotView {
            label: n.map_or(Label::Empty, |(n, _)| Label::Release(version(*n))),
            data_id: hash(n.map_or(0, |(n, _)| *n)).data_id(),
            tree_id: hash(n.map_or(0, |(n, _)| *n)).tree_id(),
            data_length: 1 << 20,
            tree_length: 1 << 16,
            proof: Proof::Unknown,
        };
        let mut all: Vec<Entry> = entries
            .iter()
            .map(|(n, tries)| entry(*n, tries.parse().ok()))
            .collect();
        all.sort_by(|a, b| a.file.cmp(&b.file));
        Self {
            view: View {
                booted: Some(hash(booted)),
                slots: [slot(entries.first()), slot(entries.get(1))],
                entries: all,
                staged: None,
                esp_free: 100 << 20,
                loader: Some("257".parse().unwrap()),
            },
            damaged: 0,
        }
    }

    pub fn booted(&self) -> u8 {
        number(self.view.booted.unwrap())
    }

    pub fn is_on_trial(&self) -> bool {
        let entry = self.view.booted_entry();
        entry.is_some_and(|entry| entry.tries.is_some_and(Tries::is_trial))
    }

    /// What the loader chooses.
    pub fn boots_next(&self) -> Option<u8> {
        loader_choice(&self.view.entries)?.root_hash.map(number)
    }

    /// Goes to the goal; `None`: the disk is as it is, and that cannot be.
    pub fn reach(&mut self, goal: &Goal, extent: Extent) -> Option<Spent> {
        let wanted = match goal {
            Goal::Install(target) => number(target.root_hash),
            Goal::Bless | Goal::RollBack | Goal::Credit(_) => 0,
        };
        let mut spent = Spent::default();
        for _ in 0..50 {
            match next(&self.view, goal) {
                Step::Done => return Some(spent),
                Step::Refused(_) => return None,
                Step::Do(Action::PublishUki { .. } | Action::RenameEntry { .. })
                    if extent == Extent::Staged =>
                {
                    spent.is_withheld = true;
                    return Some(spent);
                }
                Step::Do(action) => {
                    spent.has_changed |= !matches!(action, Action::ProveSlot { .. });
                    self.perform(action, wanted);
                }
            }
        }
        panic!("there is no end to {goal:?} on {:?}", self.view)
    }

    pub fn install(&mut self, n: u8, extent: Extent) -> Option<Spent> {
        self.reach(&Goal::Install(target(n)), extent)
    }

    fn perform(&mut self, action: Action, wanted: u8) {
        let view = &mut self.view;
        match action {
            Action::RemoveEntry { file } => view.entries.retain(|entry| entry.file != file),
            Action::RemoveStaged => view.staged = None,
            Action::EmptySlot { slot } => {
                let slot = &mut view.slots[slot.index()];
                slot.label = Label::Empty;
                (slot.data_id, slot.tree_id) = (hash(0).data_id(), hash(0).tree_id());
            }
            Action::FillSlot { slot } => {
                view.slots[slot.index()].proof = Proof::Whole(hash(wanted));
                if self.damaged == wanted {
                    self.damaged = 0;
                }
            }
            Action::ProveSlot { slot } => {
                let slot = &mut view.slots[slot.index()];
                let n = slot.data_id[0];
                slot.proof = if n == self.damaged {
                    Proof::Damaged
                } else {
                    Proof::Whole(hash(n))
                };
            }
            Action::NameSlot {
                slot,
                version,
                root_hash,
            } => {
                let slot = &mut view.slots[slot.index()];
                slot.label = Label::Release(version);
                (slot.data_id, slot.tree_id) = (root_hash.data_id(), root_hash.tree_id());
            }
            Action::UpdateLoader => {}
            Action::StageUki => {
                view.staged = Some(Staged {
                    length: UKI,
                    sha256: Sha256Sum([wanted; 32]),
                });
            }
            Action::PublishUki { .. } => {
                view.staged = None;
                view.entries
                    .push(entry(wanted, Some(Tries::fresh(slots::TRIES))));
            }
            Action::RenameEntry { from, to } => {
                let at = view.entries.iter().position(|entry| entry.file == from);
                let old = view.entries.remove(at.unwrap());
                let n = number(old.root_hash.unwrap());
                let tries = to
                    .strip_prefix(&format!("wherry_{n}.0"))
                    .and_then(|rest| rest.strip_suffix(".efi"));
                view.entries.push(entry(n, tries.unwrap().parse().ok()));
            }
        }
        self.view.entries.sort_by(|a, b| a.file.cmp(&b.file));
    }

    /// Reads a release's slot.
    pub fn is_whole(&self, root_hash: RootHash) -> bool {
        self.view.slot_of(&root_hash).is_some() && self.damaged != number(root_hash)
    }

    /// The program that had read the slots has ended.
    pub fn forget_proofs(&mut self) {
        for slot in &mut self.view.slots {
            slot.proof = Proof::Unknown;
        }
    }

    /// Starts the machine: the loader counts and chooses until something comes up.
    /// `broken` never does.
    pub fn boot(&mut self, broken: u8) {
        self.forget_proofs();
        for _ in 0..20 {
            let choice = loader_choice(&self.view.entries).expect("an entry").clone();
            let n = number(choice.root_hash.unwrap());
            if let Some(tries) = choice.tries.filter(|tries| tries.left > 0) {
                let counted = Tries {
                    left: tries.left - 1,
                    done: tries.done + 1,
                };
                self.view.entries.retain(|entry| *entry != choice);
                self.view.entries.push(entry(n, Some(counted)));
                self.view.entries.sort_by(|a, b| a.file.cmp(&b.file));
            }
            if n != broken && self.is_whole(hash(n)) {
                self.view.booted = Some(hash(n));
                return;
            }
        }
        panic!("nothing boots: {:?}", self.view);
    }
}
