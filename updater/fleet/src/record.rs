//! The results of a simulation.

use std::collections::{BTreeMap, BTreeSet};

use release::Version;

use crate::scenario::Moment;

/// The fleet at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// When.
    pub at: Moment,
    /// How many machines run which release, blessed; a machine with a release
    /// on trial counts for the one that it would fall back to.
    pub running: BTreeMap<Version, usize>,
    /// Peak number of machines away for a reboot since the previous sample:
    /// from the reboot until they have proved themselves or fallen back.
    pub away: usize,
    /// Slots taken on the FleetLock server.
    pub slots: usize,
}

/// Everything that happened, as far as anything asks for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// At regular intervals.
    pub samples: Vec<Sample>,
    /// Which machines booted a release, and when first.
    pub tried: BTreeMap<Version, BTreeMap<usize, Moment>>,
    /// Which machines blessed it, and when.
    pub blessed: BTreeMap<Version, BTreeMap<usize, Moment>>,
    /// Which machines fell back from it, and were healthy afterwards, and when.
    pub fell_back: BTreeMap<Version, BTreeMap<usize, Moment>>,
    /// Which machines fell back only because they could not reach the server.
    pub unreachable: BTreeMap<Version, BTreeSet<usize>>,
    /// What was halted when.
    pub halted: BTreeMap<Version, Moment>,
    /// What each machine runs at the end, and whether it is blessed.
    pub end: Vec<(Version, bool)>,
    /// Machines that are on hold or pinned to their first release.
    pub kept: BTreeSet<usize>,
    /// The most machines away at once.
    pub most_away: usize,
    /// The most slots taken at once.
    pub most_slots: usize,
    /// Slots taken at the end.
    pub slots_at_end: usize,
    /// When machines began to reboot.
    pub reboots: Vec<Moment>,
    /// Reboots outside of the machine's windows: there are none by the policy.
    pub outside_of_windows: usize,
    /// Machines that lost power.
    pub power_cuts: usize,
    /// Requests that the FleetLock server answered, refused, never received.
    pub lock_requests: (u64, u64, u64),
    /// Checks for new releases.
    pub checks: u64,
    /// Total events.
    pub events: u64,
}
