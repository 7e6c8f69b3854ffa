//! What the last boots were: from what is on the disk, what the machine
//! remembers and what kernel, PID 1 and hardware say. Pure.
//!
//! Three questions are answered once a boot:
//! - Did another release give way to the one that runs, and why?
//! - Did the boot before end without fault of the release that is on trial, so
//!   that its try is given back?
//! - Is the release that runs on trial?
//!
//! A try counts against a release only for what the release did. A boot that
//! ended because somebody asked, or because the power went, says nothing about
//! it. A power cut leaves no trace, so it is what is left: the updater was
//! reached, nobody asked for the end, the kernel did not panic, the watchdog did
//! not reset. A release could look so too that switches the machine off hard;
//! so tries are given back only [`MOST_CREDITS`] times.

use release::{RootHash, Version};
use serde::{Deserialize, Serialize};
use slots::Tries;

/// How often a release is given a try back.
pub const MOST_CREDITS: u32 = 10;

/// How a boot ended, as far as the updater saw.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// It saw no end.
    #[default]
    Unknown,
    /// PID 1 was stopping the machine, in order.
    Asked,
    /// The updater itself gave the release up.
    Unhealthy {
        /// Why.
        reason: String,
        /// All was well but that no repository answered: the release need not be
        /// at fault.
        only_server: bool,
    },
}

/// A boot that the updater saw.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootSeen {
    /// The kernel's id of it.
    pub boot_id: String,
    /// What ran.
    pub version: Version,
    /// Its root hash, where it ran from a slot.
    pub root_hash: Option<RootHash>,
    /// How it ended.
    #[serde(default)]
    pub ended: Ended,
}

/// A release with its boot entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Its version.
    pub version: Version,
    /// Its root hash.
    pub root_hash: RootHash,
    /// Its count.
    pub tries: Option<Tries>,
}

/// All that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The id of this boot.
    pub boot_id: String,
    /// What runs; `None` where it runs from no slot, or has no boot entry.
    pub running: Option<Candidate>,
    /// The releases with an entry and a slot that do not run.
    pub others: Vec<Candidate>,
    /// The last boot that the updater saw; this one, where it was restarted.
    pub seen: Option<BootSeen>,
    /// What was installed last and was to boot next.
    pub staged: Option<(Version, RootHash)>,
    /// What somebody left on purpose: rolled back from, or replaced by an older one.
    pub left: Vec<RootHash>,
    /// What is known to have failed.
    pub failed: Vec<Version>,
    /// Tries that were given back to what runs.
    pub credits: u32,
    /// The last words of a kernel that panicked.
    pub panic: Option<String>,
    /// Whether the hardware watchdog has reset the machine.
    pub watchdog_reset: bool,
    /// Why PID 1 gave a release up that nobody confirmed.
    pub trial_expired: Option<String>,
}

/// A release that gave way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FellBack {
    /// Its version.
    pub version: Version,
    /// Its root hash.
    pub root_hash: RootHash,
    /// Why, as far as it is known.
    pub reason: String,
    /// Whether it had proven itself before: then its slot may have gone bad.
    pub was_blessed: bool,
    /// Whether it need not be at fault.
    pub only_server: bool,
}

/// What follows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The release that gave way to the one that runs.
    pub fell_back: Option<FellBack>,
    /// The count that the running release is to have.
    pub credit: Option<Tries>,
    /// Whether the running release has yet to prove itself.
    pub on_trial: bool,
}

/// Draws the conclusions.
pub fn conclude(evidence: &Evidence) -> Findings {
    let Some(running) = &evidence.running else {
        return Findings::default();
    };
    let on_trial = running.tries.is_some_and(Tries::is_trial);
    // The daemon was restarted: about the boot before, all was said.
    if evidence
        .seen
        .as_ref()
        .is_some_and(|seen| seen.boot_id == evidence.boot_id)
    {
        return Findings {
            on_trial,
            ..Findings::default()
        };
    }
    Findings {
        fell_back: fell_back(evidence, running),
        credit: on_trial.then(|| credit(evidence, running)).flatten(),
        on_trial,
    }
}

fn fell_back(evidence: &Evidence, running: &Candidate) -> Option<FellBack> {
    let is_new = |version: &Version, root_hash: &RootHash| {
        *root_hash != running.root_hash
            && !evidence.left.contains(root_hash)
            && !evidence.failed.contains(version)
    };
    let staged = evidence.staged.as_ref();
    let is_staged = |root_hash: &RootHash| staged.is_some_and(|(_, hash)| hash == root_hash);
    let spent = evidence.others.iter().find(|other| {
        let preferred = other.version > running.version || is_staged(&other.root_hash);
        let is_spent = other.tries.is_some_and(|tries| tries.left == 0);
        preferred && is_spent && is_new(&other.version, &other.root_hash)
    });
    if let Some(other) = spent {
        return Some(FellBack {
            version: other.version.clone(),
            root_hash: other.root_hash,
            reason: reason(evidence, &other.root_hash),
            was_blessed: other.tries.is_some_and(|tries| !tries.is_trial()),
            only_server: evidence.seen.as_ref().is_some_and(|seen| {
                seen.root_hash == Some(other.root_hash)
                    && matches!(
                        seen.ended,
                        Ended::Unhealthy {
                            only_server: true,
                            ..
                        }
                    )
            }),
        });
    }
    // What was to boot has no entry any more that the loader could take.
    let (version, root_hash) = staged?;
    let is_there = evidence
        .others
        .iter()
        .any(|other| other.root_hash == *root_hash);
    (!is_there && is_new(version, root_hash)).then(|| FellBack {
        version: version.clone(),
        root_hash: *root_hash,
        reason: "its boot entry is gone".to_owned(),
        was_blessed: false,
        only_server: false,
    })
}

/// The best reason that is known for a release's giving way.
fn reason(evidence: &Evidence, root_hash: &RootHash) -> String {
    let seen = evidence
        .seen
        .as_ref()
        .filter(|seen| seen.root_hash.as_ref() == Some(root_hash));
    if let Some(Ended::Unhealthy { reason, .. }) = seen.map(|seen| &seen.ended) {
        return reason.clone();
    }
    if let Some(why) = &evidence.trial_expired {
        return why.clone();
    }
    if let Some(words) = &evidence.panic {
        return format!("the kernel panicked: {words}");
    }
    if evidence.watchdog_reset {
        return "it hung, and the hardware watchdog reset the machine".to_owned();
    }
    match seen {
        Some(_) => "its boots ended before it had proven itself, for no known reason".to_owned(),
        None => "it did not come up".to_owned(),
    }
}

/// The count with the try of the boot before given back, where that boot ended
/// without fault of the release.
fn credit(evidence: &Evidence, running: &Candidate) -> Option<Tries> {
    let seen = evidence
        .seen
        .as_ref()
        .filter(|seen| seen.root_hash == Some(running.root_hash))?;
    let is_innocent = match seen.ended {
        Ended::Asked => true,
        Ended::Unknown => {
            evidence.panic.is_none() && !evidence.watchdog_reset && evidence.trial_expired.is_none()
        }
        Ended::Unhealthy { .. } => false,
    };
    let tries = running.tries?;
    // This boot has taken a try too.
    (is_innocent && evidence.credits < MOST_CREDITS && tries.done > 1).then(|| Tries {
        left: tries.left + 1,
        done: tries.done - 1,
    })
}

#[cfg(test)]
mod tests;
