//! The updater, run again on what a power cut left: it has to end in the same
//! place, wherever it was cut off.

use super::check::{Checker, Standing};
use super::known;
use super::medium::Medium;
use super::scenario::Scenario;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program, and where it has ended so far.
pub struct Updater<'a> {
    releases: &'a Path,
    program: &'a Path,
    state: PathBuf,
    /// By scenario and what was asked for: the end of the first run.
    ends: BTreeMap<(&'static str, &'static str), Standing>,
}

impl<'a> Updater<'a> {
    /// This program, for these releases; what it remembers is below `folder`.
    pub fn new(releases: &'a Path, program: &'a Path, folder: &Path) -> Self {
        Self {
            releases,
            program,
            state: folder.join("updater"),
            ends: BTreeMap::new(),
        }
    }

    /// Does on `disk` what the machine that boots from it would do next. The inner
    /// error is why it did not end where it should. `by_firmware`: the power went
    /// while firmware and loader wrote. Their renaming may lose an entry for good;
    /// then the release that boots instead is the one to end with.
    pub fn converges(
        &mut self,
        scenario: Scenario,
        cut: &Standing,
        by_firmware: bool,
        disk: &Path,
    ) -> Result<Result<(), String>> {
        let releases = self.releases;
        let booted = super::root_hash(releases, &cut.boots)?;
        // What runs already has only to be confirmed.
        let lost = by_firmware && cut.boots != scenario.runs;
        let goal = if lost || cut.boots == scenario.ends {
            "bless"
        } else {
            scenario.goal
        };
        let ends = if lost { &cut.boots } else { scenario.ends };
        let mut updater = Command::new(self.program);
        updater.arg(goal);
        updater.arg("--disk").arg(disk).args(["--booted", &booted]);
        if goal == "install" {
            updater
                .arg("--repository")
                .arg(releases.join("repository"))
                .arg("--trust")
                .arg(releases.join("keys/root.json"))
                .args(["--channel", scenario.channel])
                .arg("--state")
                .arg(&self.state);
        }
        let output = updater
            .output()
            .with_context(|| format!("start {}", self.program.display()))?;
        if !output.status.success() {
            let text = String::from_utf8_lossy(&output.stderr);
            return Ok(Err(format!("updater {goal}: {}", text.trim())));
        }
        let mut medium = Medium::load(disk)?;
        let mut checker = Checker::new(known(releases)?, Vec::new(), &mut medium)?;
        Ok(checker.check(&medium).and_then(|end| {
            if end.boots != ends {
                return Err(format!("after updater {goal} {} boots", end.boots));
            }
            if by_firmware {
                return Ok(());
            }
            let first = self
                .ends
                .entry((scenario.name, goal))
                .or_insert_with(|| end.clone());
            if *first == end {
                Ok(())
            } else {
                Err(format!(
                    "updater {goal} ended at {end:?}, before at {first:?}"
                ))
            }
        }))
    }
}
