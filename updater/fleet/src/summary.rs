//! A simulation's figures.

use std::collections::BTreeMap;
use std::fmt;

use release::Version;
use serde::Serialize;

use crate::record::Record;
use crate::scenario::{HOUR, Moment, Scenario};

/// The figures of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Machines.
    pub machines: usize,
    /// The run's seed.
    pub seed: u64,
    /// Simulated days.
    pub days: f64,
    /// Each release that was published.
    pub versions: BTreeMap<String, VersionSummary>,
    /// Machines by what they run at the end.
    pub end: BTreeMap<String, usize>,
    /// Machines that run an unproven release at the end.
    pub unsettled_at_end: usize,
    /// Slots of the FleetLock server.
    pub lock_slots: usize,
    /// Peak number of machines away for a reboot.
    pub most_reboots_at_once: usize,
    /// Peak number of slots taken.
    pub most_slots_taken: usize,
    /// Slots taken at the end.
    pub slots_taken_at_end: usize,
    /// Hours for which the FleetLock server did not answer.
    pub lock_down_hours: f64,
    /// Machines that began to reboot in those hours.
    pub reboots_while_lock_down: usize,
    /// Total reboots.
    pub reboots: usize,
    /// Reboots outside of the machine's windows.
    pub reboots_outside_of_windows: usize,
    /// Machines on hold or pinned to their first release.
    pub kept: usize,
    /// Those of them that run another release at the end.
    pub kept_that_moved: usize,
    /// Machines that lost power.
    pub power_cuts: usize,
    /// Requests that the FleetLock server answered.
    pub lock_requests: u64,
    /// Those requests that found all slots taken.
    pub lock_refusals: u64,
    /// Requests that came while it was down.
    pub lock_unanswered: u64,
    /// Checks for new releases.
    pub checks: u64,
    /// Events.
    pub events: u64,
}

/// The figures of a release.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct VersionSummary {
    /// Machines that booted it.
    pub tried: usize,
    /// Machines that blessed it.
    pub blessed: usize,
    /// Machines that fell back from it because a service was unhealthy.
    pub fell_back: usize,
    /// Machines that fell back from it only because they could not reach the
    /// update server.
    pub unreachable: usize,
    /// Percent of the fleet in the first wave.
    pub first_wave_percent: u8,
    /// Percent of the fleet that tried it.
    pub tried_percent: f64,
    /// Hours from the first wave's start to the halt.
    pub halted_after_hours: Option<f64>,
    /// Hours from the first wave's start until half of those that blessed it at
    /// the end had done so.
    pub half_after_hours: Option<f64>,
    /// The same for the last of them.
    pub all_after_hours: Option<f64>,
}

/// Sums a run up.
pub fn summary(scenario: &Scenario, record: &Record) -> Summary {
    let mut end = BTreeMap::new();
    for (version, _) in &record.end {
        *end.entry(version.to_string()).or_insert(0) += 1;
    }
    let down = |at: &Moment| {
        let mut spans = scenario.lock_down.iter();
        // A slot may have been granted just before.
        spans.any(|(from, until)| from + crate::network::PATIENCE < *at && at < until)
    };
    let (lock_requests, lock_refusals, lock_unanswered) = record.lock_requests;
    Summary {
        machines: scenario.machines,
        seed: scenario.seed,
        days: hours(scenario.length) / 24.0,
        versions: versions(scenario, record),
        end,
        unsettled_at_end: record.end.iter().filter(|(_, settled)| !settled).count(),
        lock_slots: scenario.lock_slots,
        most_reboots_at_once: record.most_away,
        most_slots_taken: record.most_slots,
        slots_taken_at_end: record.slots_at_end,
        lock_down_hours: scenario
            .lock_down
            .iter()
            .map(|(from, until)| hours(until - from))
            .sum(),
        reboots_while_lock_down: record.reboots.iter().filter(|at| down(at)).count(),
        reboots: record.reboots.len(),
        reboots_outside_of_windows: record.outside_of_windows,
        kept: record.kept.len(),
        kept_that_moved: record
            .kept
            .iter()
            .filter(|number| record.end[**number].0.as_str() != "1.0")
            .count(),
        power_cuts: record.power_cuts,
        lock_requests,
        lock_refusals,
        lock_unanswered,
        checks: record.checks,
        events: record.events,
    }
}

fn versions(scenario: &Scenario, record: &Record) -> BTreeMap<String, VersionSummary> {
    let mut versions = BTreeMap::new();
    for publication in &scenario.releases {
        let Ok(version) = publication.version.parse::<Version>() else {
            continue;
        };
        let count = |of: &BTreeMap<Version, BTreeMap<usize, Moment>>| {
            of.get(&version).map_or(0, BTreeMap::len)
        };
        let (first_wave_percent, start) = publication
            .waves
            .first()
            .copied()
            .unwrap_or((100, publication.at));
        let mut blessed: Vec<Moment> = record
            .blessed
            .get(&version)
            .map(|machines| machines.values().copied().collect())
            .unwrap_or_default();
        blessed.sort_unstable();
        let after = |at: Moment| hours(at.saturating_sub(start));
        let tried = count(&record.tried);
        versions.insert(
            publication.version.to_owned(),
            VersionSummary {
                tried,
                blessed: count(&record.blessed),
                fell_back: count(&record.fell_back),
                unreachable: record.unreachable.get(&version).map_or(0, |set| set.len()),
                first_wave_percent,
                tried_percent: percent(tried, scenario.machines),
                halted_after_hours: record.halted.get(&version).map(|at| after(*at)),
                half_after_hours: blessed.get(blessed.len() / 2).map(|at| after(*at)),
                all_after_hours: blessed.last().map(|at| after(*at)),
            },
        );
    }
    versions
}

#[expect(clippy::cast_precision_loss, reason = "some weeks")]
fn hours(time: Moment) -> f64 {
    (time as f64 / HOUR as f64 * 100.0).round() / 100.0
}

#[expect(clippy::cast_precision_loss, reason = "machines are few")]
fn percent(part: usize, whole: usize) -> f64 {
    (part as f64 / whole.max(1) as f64 * 1000.0).round() / 10.0
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} machines, {} days, seed {}",
            self.machines, self.days, self.seed
        )?;
        let none = || "-".to_owned();
        writeln!(
            f,
            "release  tried  blessed  fell back  halted after  half after  all after"
        )?;
        for (version, of) in &self.versions {
            let after =
                |hours: Option<f64>| hours.map_or_else(none, |hours| format!("{hours:.1} h"));
            writeln!(
                f,
                "{version:<7}  {:>5}  {:>7}  {:>9}  {:>12}  {:>10}  {:>9}",
                of.tried,
                of.blessed,
                of.fell_back + of.unreachable,
                after(of.halted_after_hours),
                after(of.half_after_hours),
                after(of.all_after_hours),
            )?;
        }
        writeln!(
            f,
            "reboots: {}, at most {} at once ({} slots), {} outside of windows, {} while the lock \
             server was down",
            self.reboots,
            self.most_reboots_at_once,
            self.lock_slots,
            self.reboots_outside_of_windows,
            self.reboots_while_lock_down
        )?;
        write!(f, "at the end:")?;
        for (version, machines) in &self.end {
            write!(f, " {machines} run {version},")?;
        }
        writeln!(
            f,
            " {} unproven; {} held or pinned, {} of them moved",
            self.unsettled_at_end, self.kept, self.kept_that_moved
        )
    }
}
