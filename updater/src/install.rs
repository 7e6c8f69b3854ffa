//! The way to a goal on a system disk: look, ask [`slots::next`], do, look again.
//!
//! It works the same on a machine's disk and on an image file. After an
//! interruption it continues from what is on the disk.

use std::io::Write;

use block_device::{BlockDevice, ReadAt};
use fetch::Repository;
use lifecycle::{Extent, Phase, Progress};
use release::{BLOCK, Manifest, RootHash, VerityParameters};
use slots::{Action, Goal, SlotId, Step, Target, View};
use system_disk::SystemDisk;

use crate::error::Error;

/// How often one action may be repeated on the way to one goal. Once should be
/// enough; a repetition means a slot that reads back wrong or a medium that loses
/// writes.
const REPEATS: usize = 3;

/// The release to install and its repository.
pub struct Source<'a> {
    /// The release.
    pub manifest: &'a Manifest,
    /// The repository; `None` if nothing is left to fetch.
    pub repository: Option<&'a Repository>,
}

/// The cost of an installation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// Bytes from mirrors.
    pub fetched: u64,
    /// Bytes that were on the disk already.
    pub reused: u64,
    /// What was done, in order.
    pub actions: Vec<Action>,
    /// Mirrors that were dropped, and why.
    pub dropped: Vec<String>,
    /// Whether the boot entries have yet to be changed.
    pub is_withheld: bool,
}

impl Spent {
    /// Whether anything was changed: reading is no change.
    pub fn has_changed(&self) -> bool {
        let is_change = |action: &Action| !matches!(action, Action::ProveSlot { .. });
        self.actions.iter().any(is_change)
    }

    fn add(&mut self, fetched: &fetch::Fetched) {
        self.fetched += fetched.bytes;
        self.reused += fetched.reused;
        for mirror in &fetched.mirrors {
            if let Some(why) = &mirror.dropped {
                self.dropped.push(format!("{}: {why}", mirror.address));
            }
        }
    }
}

/// What `slots` needs of a release.
pub fn target(manifest: &Manifest) -> Target {
    Target {
        version: manifest.version.clone(),
        root_hash: manifest.root_hash,
        data_length: manifest.root.length,
        tree_length: manifest.tree.length,
        uki: manifest.uki.sha256,
        uki_length: manifest.uki.length,
        loader_version: manifest.loader_version.clone(),
    }
}

/// Brings `disk` to `goal` and reports progress to `tell`.
///
/// # Errors
/// What failed; the disk still boots what it booted before.
pub async fn reach<D: BlockDevice>(
    disk: &SystemDisk<D>,
    goal: &Goal,
    source: Option<&Source<'_>>,
    extent: Extent,
    tell: &dyn Fn(Progress),
) -> Result<Spent, Error> {
    let mut spent = Spent::default();
    loop {
        let view = disk.view()?;
        let action = match slots::next(&view, goal) {
            Step::Done => return Ok(spent),
            Step::Refused(refusal) => return Err(Error::Refused(refusal)),
            // The entries' names decide what boots next; everything else is ready.
            Step::Do(Action::PublishUki { .. } | Action::RenameEntry { .. })
                if extent == Extent::Staged =>
            {
                spent.is_withheld = true;
                return Ok(spent);
            }
            Step::Do(action) => action,
        };
        let before = spent.actions.iter().filter(|it| **it == action).count();
        if before >= REPEATS {
            return Err(Error::Stuck { action });
        }
        perform(disk, &view, &action, source, &mut spent, tell).await?;
        spent.actions.push(action);
    }
}

/// Checks whether `manifest` can be installed, before anything is fetched.
///
/// # Errors
/// Why not.
pub fn check<D: BlockDevice>(disk: &SystemDisk<D>, manifest: &Manifest) -> Result<(), Error> {
    slots::check(&disk.view()?, &target(manifest)).map_err(Error::Refused)
}

async fn perform<D: BlockDevice>(
    disk: &SystemDisk<D>,
    view: &View,
    action: &Action,
    source: Option<&Source<'_>>,
    spent: &mut Spent,
    tell: &dyn Fn(Progress),
) -> Result<(), Error> {
    let version = source.map(|source| source.manifest.version.clone());
    let say = |phase: Phase, progress: fetch::Progress| {
        tell(Progress {
            phase,
            version: version.clone(),
            fetched: progress.fetched,
            reused: progress.reused,
            verified: progress.verified,
            total: progress.total,
        });
    };
    match action {
        Action::FillSlot { slot } => {
            let source = source.ok_or(Error::NoSource)?;
            let repository = source.repository.ok_or(Error::NoSource)?;
            let manifest = source.manifest;
            let target = disk.slot(*slot)?;
            let other = disk.slot(slot.other())?;
            let target = fetch::Slot {
                data: &target.data,
                tree: &target.tree,
            };
            let seeds = [fetch::Slot {
                data: &other.data,
                tree: &other.tree,
            }];
            say(Phase::Writing, fetch::Progress::default());
            let fetched = repository
                .fill_slot(manifest, target, &seeds, &|progress| {
                    say(Phase::Writing, progress);
                })
                .await?;
            spent.add(&fetched);
            prove(disk, *slot, &manifest.verity, &manifest.root_hash, &say)
        }
        Action::ProveSlot { slot } => {
            let total = view.slots[slot.index()].data_length;
            disk.prove_named(*slot, &mut |verified| {
                say(
                    Phase::Proving,
                    fetch::Progress {
                        verified,
                        total,
                        ..fetch::Progress::default()
                    },
                );
            })?;
            Ok(())
        }
        Action::StageUki => {
            let source = source.ok_or(Error::NoSource)?;
            let repository = source.repository.ok_or(Error::NoSource)?;
            let fetched = stage_uki(disk, view, repository, source.manifest, &|progress| {
                say(Phase::FetchingKernel, progress);
            })
            .await?;
            spent.add(&fetched);
            Ok(())
        }
        Action::UpdateLoader => {
            let source = source.ok_or(Error::NoSource)?;
            let repository = source.repository.ok_or(Error::NoSource)?;
            say(Phase::Switching, fetch::Progress::default());
            let before = repository.received();
            let loader = repository.artifact(&source.manifest.loader).await?;
            spent.fetched += repository.received() - before;
            disk.update_loader(&loader)?;
            Ok(())
        }
        Action::RemoveEntry { .. }
        | Action::RemoveStaged
        | Action::EmptySlot { .. }
        | Action::NameSlot { .. }
        | Action::PublishUki { .. }
        | Action::RenameEntry { .. } => {
            let phase = match action {
                Action::RemoveEntry { .. } | Action::RemoveStaged | Action::EmptySlot { .. } => {
                    Phase::Preparing
                }
                _ => Phase::Switching,
            };
            say(phase, fetch::Progress::default());
            disk.perform(action)?;
            Ok(())
        }
    }
}

/// Reads a slot back from the medium and keeps the result in the disk's view.
fn prove<D: BlockDevice>(
    disk: &SystemDisk<D>,
    slot: SlotId,
    verity: &VerityParameters,
    root_hash: &RootHash,
    say: &dyn Fn(Phase, fetch::Progress),
) -> Result<(), Error> {
    let total = verity.data_blocks * BLOCK;
    let mut progress = |verified: u64| {
        say(
            Phase::Proving,
            fetch::Progress {
                verified,
                total,
                ..fetch::Progress::default()
            },
        );
    };
    progress(0);
    disk.prove(slot, verity, root_hash, &mut progress)?;
    Ok(())
}

async fn stage_uki<D: BlockDevice>(
    disk: &SystemDisk<D>,
    view: &View,
    repository: &Repository,
    manifest: &Manifest,
    progress: &dyn Fn(fetch::Progress),
) -> Result<fetch::Fetched, Error> {
    let files = view
        .entries
        .iter()
        .filter(|entry| entry.root_hash.is_some())
        .map(|entry| disk.entry_file(&entry.file))
        .collect::<Result<Vec<_>, _>>()?;
    let seeds: Vec<&dyn ReadAt> = files.iter().map(|file| file as &dyn ReadAt).collect();
    let mut stage = disk.stage_uki(manifest.uki.length)?;
    let fetched = repository
        .uki(
            manifest,
            &seeds,
            &mut |bytes| stage.write_all(bytes),
            progress,
        )
        .await?;
    stage.finish(&manifest.uki.sha256)?;
    Ok(fetched)
}
