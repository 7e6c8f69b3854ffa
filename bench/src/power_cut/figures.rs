//! What came out.

use super::cuts::Point;
use serde_json::{Value, json};
use std::fmt::Write;

/// More failures than that tell nothing new.
const SHOWN: usize = 20;

/// Counts over all scenarios.
#[derive(Debug, Default)]
pub struct Figures {
    /// Cuts in the order of the writes, torn ones included.
    pub points: u64,
    /// Contents that only another order of the writes leaves.
    pub reorderings: u64,
    /// Contents among both that differ in what is needed to boot.
    pub contents: usize,
    /// Contents on which the updater was run again.
    pub converged: u64,
    /// Contents that were booted in QEMU.
    pub booted_samples: u64,
    /// Points that boot no complete release, or lost a release that had to stay.
    pub bricked: u64,
    /// Contents on which the updater does not end in the same place.
    pub not_converged: u64,
    /// The first failures, with their points.
    pub failures: Vec<String>,
}

impl Figures {
    /// Counts a content that does not boot.
    pub fn bricked(&mut self, scenario: &str, point: &Point, why: &str) {
        self.bricked += 1;
        self.note(scenario, point, why);
    }

    /// Counts a content on which the updater did not end where it should.
    pub fn not_converged(&mut self, scenario: &str, point: &Point, why: &str) {
        self.not_converged += 1;
        self.note(scenario, point, why);
    }

    fn note(&mut self, scenario: &str, point: &Point, why: &str) {
        if self.failures.len() < SHOWN {
            self.failures.push(format!(
                "{scenario}, after flush {}, {}: {why}",
                point.epoch, point.name
            ));
        }
    }

    /// For a program.
    pub fn json(&self) -> Value {
        json!({
            "points": self.points,
            "reorderings": self.reorderings,
            "contents": self.contents,
            "converged": self.converged,
            "booted_samples": self.booted_samples,
            "bricked": self.bricked,
            "not_converged": self.not_converged,
            "failures": self.failures,
        })
    }

    /// For a person.
    pub fn table(&self) -> String {
        let mut text = String::new();
        for (name, count) in [
            ("power cuts tried", self.points),
            ("reorderings tried", self.reorderings),
            ("different contents among them", self.contents as u64),
            ("updater run again", self.converged),
            ("booted in QEMU", self.booted_samples),
            ("boot nothing that is whole", self.bricked),
            ("updater ends elsewhere", self.not_converged),
        ] {
            // A text in memory takes everything.
            let _ = writeln!(text, "{name:<32}{count:>10}");
        }
        for failure in &self.failures {
            let _ = writeln!(text, "  {failure}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::Figures;
    use crate::power_cut::cuts::{Kind, Point};

    #[test]
    fn every_failure_counts_and_the_first_ones_are_told() {
        let mut figures = Figures::default();
        let point = Point {
            kind: Kind::Cut,
            epoch: 3,
            name: "up to write 1".to_owned(),
        };
        for _ in 0..100 {
            figures.bricked("install", &point, "no entry");
        }
        assert_eq!(figures.json()["bricked"], 100);
        assert_eq!(figures.failures.len(), 20);
        assert!(
            figures
                .table()
                .contains("install, after flush 3, up to write 1: no entry")
        );
    }
}
