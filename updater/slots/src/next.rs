//! The next action towards a goal.

use release::{RootHash, Sha256Sum, Version};

use crate::{
    Entry, GUARD, GUARD_LOW, Label, Proof, Refusal, SlotId, Staged, TRIES, Tries, View,
    loader_choice,
};
use layout::entry::EntryName;

/// Room on the ESP beside a kernel image: folders that grow, and a loader while
/// both versions of it are there.
const ESP_SLACK: u64 = 1 << 20;

/// A release to install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its version.
    pub version: Version,
    /// The root hash of its root.
    pub root_hash: RootHash,
    /// Bytes of its root.
    pub data_length: u64,
    /// Bytes of its hash tree with the superblock.
    pub tree_length: u64,
    /// The SHA-256 of its kernel image.
    pub uki: Sha256Sum,
    /// Bytes of its kernel image.
    pub uki_length: u64,
    /// The version of its boot loader.
    pub loader_version: Version,
}

/// The state to reach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Goal {
    /// The loader boots this release next. It may be the running release, whose
    /// boot entry is restored if it is missing.
    Install(Target),
    /// The running release is good.
    Bless,
    /// The loader boots the other release next.
    RollBack,
    /// The running release has these tries: one is given back to it.
    Credit(Tries),
}

/// One change. Each is atomic except [`Action::FillSlot`] and
/// [`Action::StageUki`], whose unfinished results are never booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Removes a boot entry.
    RemoveEntry {
        /// Its name.
        file: String,
    },
    /// Removes the staged kernel image.
    RemoveStaged,
    /// Labels a slot `_empty` and gives it ids that no release has.
    EmptySlot {
        /// The slot.
        slot: SlotId,
    },
    /// Writes the release into the slot and reads it back.
    FillSlot {
        /// The slot.
        slot: SlotId,
    },
    /// Reads the slot and checks that it matches its ids.
    ProveSlot {
        /// The slot.
        slot: SlotId,
    },
    /// Gives the slot the release's label and ids.
    NameSlot {
        /// The slot.
        slot: SlotId,
        /// The label's version.
        version: Version,
        /// Its two halves are the ids.
        root_hash: RootHash,
    },
    /// Replaces both copies of the boot loader by the release's.
    UpdateLoader,
    /// Writes the release's kernel image beside the entries and reads it back.
    StageUki,
    /// Makes the staged kernel image an entry.
    PublishUki {
        /// The entry's name.
        file: String,
    },
    /// Renames an entry.
    RenameEntry {
        /// Its name.
        from: String,
        /// Its new name.
        to: String,
    },
}

/// What to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Perform this, look again, ask again.
    Do(Action),
    /// The goal is reached.
    Done,
    /// The goal cannot be reached.
    Refused(Refusal),
}

/// The next step towards the goal.
pub fn next(view: &View, goal: &Goal) -> Step {
    if let Some(action) = remove_twin(view) {
        return Step::Do(action);
    }
    let step = match goal {
        Goal::Install(target) => install(view, target),
        Goal::Bless => bless(view),
        Goal::RollBack => roll_back(view),
        Goal::Credit(tries) => booted_entry(view).map(|entry| counted(entry, Some(*tries))),
    };
    match step {
        Ok(Some(action)) => Step::Do(action),
        Ok(None) => Step::Done,
        Err(refusal) => Step::Refused(refusal),
    }
}

/// Checks whether the release can be installed, before anything is fetched.
///
/// # Errors
/// Why not.
pub fn check(view: &View, target: &Target) -> Result<(), Refusal> {
    let booted = view.booted_slot().ok_or(Refusal::NotFromSlot)?;
    let is_running = view.booted == Some(target.root_hash);
    if !is_running {
        let entry = booted_entry(view)?;
        if entry.tries.is_some_and(Tries::is_trial) {
            return Err(Refusal::OnTrial);
        }
        let slot = booted.other();
        let there = &view.slots[slot.index()];
        for (partition, length, needed) in [
            ("data", there.data_length, target.data_length),
            ("hash tree", there.tree_length, target.tree_length),
        ] {
            if length < needed {
                return Err(Refusal::SlotTooSmall {
                    slot,
                    partition,
                    length,
                    needed,
                });
            }
        }
    }
    if view.entries.iter().any(|entry| is_of(entry, target)) {
        return Ok(());
    }
    let removable = view
        .entries
        .iter()
        .filter(|entry| entry.root_hash.is_none() || entry.root_hash != view.booted)
        .map(|entry| entry.length)
        .sum::<u64>();
    let staged = view.staged.map_or(0, |staged| staged.length);
    let available = view.esp_free + removable + staged;
    let needed = target.uki_length + ESP_SLACK;
    if available < needed {
        return Err(Refusal::EspFull { available, needed });
    }
    Ok(())
}

/// An interrupted renaming (perhaps the loader's) has left two entries of one
/// release: removes the one that the loader does not choose.
fn remove_twin(view: &View) -> Option<Action> {
    view.entries.iter().find_map(|entry| {
        let is_twin = view.entries.iter().any(|other| {
            other.root_hash == entry.root_hash
                && other.file != entry.file
                && crate::order(other, entry).is_lt()
        });
        (is_twin && entry.root_hash.is_some()).then(|| Action::RemoveEntry {
            file: entry.file.clone(),
        })
    })
}

type Next = Result<Option<Action>, Refusal>;

fn install(view: &View, target: &Target) -> Next {
    check(view, target)?;
    let running = view.booted_slot().ok_or(Refusal::NotFromSlot)?;
    if view.booted != Some(target.root_hash)
        && let Some(action) = fill(view, target, running.other())
    {
        return Ok(Some(action));
    }
    if view
        .loader
        .as_ref()
        .is_some_and(|loader| *loader < target.loader_version)
    {
        return Ok(Some(Action::UpdateLoader));
    }
    let Some(entry) = view.entries.iter().find(|entry| is_of(entry, target)) else {
        return Ok(Some(publish(view, target)));
    };
    if view.booted == Some(target.root_hash) {
        return Ok(remove_staged(view));
    }
    // A release that failed before is retried like a new one.
    if entry.is_bad() {
        return Ok(counted(entry, Some(Tries::fresh(TRIES))));
    }
    if let Some(action) = prefer(view, entry) {
        return Ok(Some(action));
    }
    Ok(remove_staged(view))
}

/// Writes the target into the spare slot, unless it is there.
fn fill(view: &View, target: &Target, slot: SlotId) -> Option<Action> {
    let there = &view.slots[slot.index()];
    let is_named =
        there.is_named(&target.root_hash) && there.label == Label::Release(target.version.clone());
    if is_named && there.proof == Proof::Unknown {
        return Some(Action::ProveSlot { slot });
    }
    let is_whole = there.proof == Proof::Whole(target.root_hash);
    // First remove the entries that name this slot, and those that name no slot:
    // they are useless and take room.
    let stays = |entry: &Entry| {
        entry.root_hash.is_some()
            && (entry.root_hash == view.booted || (is_named && is_whole && is_of(entry, target)))
    };
    if let Some(entry) = view.entries.iter().find(|entry| !stays(entry)) {
        return Some(Action::RemoveEntry {
            file: entry.file.clone(),
        });
    }
    if is_whole {
        return (!is_named).then(|| Action::NameSlot {
            slot,
            version: target.version.clone(),
            root_hash: target.root_hash,
        });
    }
    Some(if there.label == Label::Empty {
        Action::FillSlot { slot }
    } else {
        Action::EmptySlot { slot }
    })
}

/// Publishes the target's kernel image as an entry.
fn publish(view: &View, target: &Target) -> Action {
    match view.staged {
        None => Action::StageUki,
        Some(Staged { sha256, .. }) if sha256 == target.uki => Action::PublishUki {
            file: file_name(&target.version, Some(Tries::fresh(TRIES))),
        },
        Some(_) => Action::RemoveStaged,
    }
}

fn remove_staged(view: &View) -> Option<Action> {
    view.staged.map(|_| Action::RemoveStaged)
}

/// Makes `entry` the loader's choice by taking the tries of the entry that the
/// loader prefers.
fn prefer(view: &View, entry: &Entry) -> Option<Action> {
    let choice = loader_choice(&view.entries)?;
    if choice.root_hash == entry.root_hash {
        return None;
    }
    // As many as a guard has, so that it does not look like a failed trial.
    let spent = Tries {
        left: 0,
        done: GUARD,
    };
    counted(choice, Some(spent))
}

fn bless(view: &View) -> Next {
    let entry = booted_entry(view)?;
    let has_other = view.others().any(|(other, _)| !other.is_bad());
    let enough = |tries: Tries| !tries.is_trial() && tries.left > GUARD_LOW;
    Ok(match (has_other, entry.tries) {
        (true, Some(tries)) if enough(tries) => None,
        (true, _) => counted(entry, Some(Tries::fresh(GUARD))),
        (false, _) => counted(entry, None),
    })
}

fn roll_back(view: &View) -> Next {
    booted_entry(view)?;
    let (entry, slot) = view
        .others()
        .min_by(|(a, _), (b, _)| crate::order(a, b))
        .ok_or(Refusal::NoOther)?;
    match view.slots[slot.index()].proof {
        Proof::Unknown => return Ok(Some(Action::ProveSlot { slot })),
        Proof::Damaged => return Err(Refusal::OtherDamaged { slot }),
        Proof::Whole(root_hash) if entry.root_hash != Some(root_hash) => {
            return Err(Refusal::OtherDamaged { slot });
        }
        Proof::Whole(_) => {}
    }
    if entry.is_bad() {
        return Ok(counted(entry, Some(Tries::fresh(GUARD))));
    }
    Ok(prefer(view, entry))
}

/// Sets an entry's count, unless it is set.
fn counted(entry: &Entry, tries: Option<Tries>) -> Option<Action> {
    let to = file_name(&entry.version, tries);
    (entry.tries != tries).then(|| Action::RenameEntry {
        from: entry.file.clone(),
        to,
    })
}

fn booted_entry(view: &View) -> Result<&Entry, Refusal> {
    if view.booted_slot().is_none() {
        return Err(Refusal::NotFromSlot);
    }
    view.booted_entry().ok_or(Refusal::NoEntry)
}

/// Whether an entry is the target's and complete.
fn is_of(entry: &Entry, target: &Target) -> bool {
    entry.root_hash == Some(target.root_hash) && entry.length == target.uki_length
}

/// The name of a version's boot entry.
fn file_name(version: &Version, tries: Option<Tries>) -> String {
    EntryName {
        version: version.clone(),
        tries,
    }
    .to_string()
}
