//! Medians, targets, the table and the JSON object.

use super::apply::Applied;
use super::blocks::Sizes;
use super::others::Others;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::time::Duration;

/// At most so many bytes for each that has to be fetched.
const FETCHED: f64 = 1.10;
/// At least so much of `dd`'s speed.
const SPEED: f64 = 0.7;
/// At most so much memory, in MiB.
const MEMORY: f64 = 16.0;

/// One pair's result.
#[derive(Debug)]
pub struct Row {
    /// The pair's name.
    pub name: String,
    /// What has to be fetched.
    pub sizes: Sizes,
    /// What others fetch.
    pub others: Others,
    /// Each time it was applied.
    pub applied: Vec<Applied>,
    /// `dd` beside each.
    pub dd: Vec<Duration>,
}

impl Row {
    fn fetched(&self) -> u64 {
        self.applied
            .iter()
            .map(|one| one.fetched)
            .max()
            .unwrap_or(0)
    }

    fn time(&self) -> f64 {
        median(self.applied.iter().map(|one| one.time))
    }

    fn cpu(&self) -> f64 {
        median(self.applied.iter().map(|one| one.cpu))
    }

    fn dd(&self) -> f64 {
        median(self.dd.iter().copied())
    }

    fn written(&self) -> u64 {
        self.applied
            .iter()
            .map(|one| one.written)
            .max()
            .unwrap_or(0)
    }

    fn fetched_over_ideal(&self) -> f64 {
        ratio(self.fetched() as f64, self.sizes.ideal as f64)
    }

    /// The speed of both: the same bytes stand on the disk in the end.
    fn apply_over_dd(&self) -> f64 {
        ratio(self.dd(), self.time())
    }

    fn peak_rss(&self) -> u64 {
        self.applied
            .iter()
            .map(|one| one.peak_rss)
            .max()
            .unwrap_or(0)
    }

    fn beats_rauc_and_zchunk(&self) -> bool {
        self.fetched() < self.others.rauc && self.fetched() < self.others.zchunk
    }
}

/// The benchmark's result.
#[derive(Debug)]
pub struct Figures {
    /// The pairs.
    pub rows: Vec<Row>,
    /// Share of the time in which other programs wanted the processors.
    pub pressure: Option<f64>,
}

impl Figures {
    fn worst_fetched_over_ideal(&self) -> f64 {
        self.rows
            .iter()
            .map(Row::fetched_over_ideal)
            .fold(0.0, f64::max)
    }

    fn apply_over_dd(&self) -> f64 {
        let each = self.rows.iter().map(Row::apply_over_dd);
        each.fold(f64::INFINITY, f64::min)
    }

    fn peak_rss_mib(&self) -> f64 {
        let most = self.rows.iter().map(Row::peak_rss).max().unwrap_or(0);
        most as f64 / f64::from(1 << 20)
    }

    /// For a program.
    pub fn json(&self) -> Value {
        let mut pairs = Map::new();
        for row in &self.rows {
            pairs.insert(
                row.name.clone(),
                json!({
                    "fetched": row.fetched(),
                    "ideal": row.sizes.ideal,
                    "full": row.sizes.full,
                    "rauc": row.others.rauc,
                    "rauc_adaptive": row.sizes.rauc_adaptive,
                    "rauc_casync": row.others.rauc_casync,
                    "zchunk": row.others.zchunk,
                    "xdelta3": row.others.xdelta3,
                    "bsdiff": row.others.bsdiff,
                    "fetched_over_ideal": thousandths(row.fetched_over_ideal()),
                    "apply_s": thousandths(row.time()),
                    "apply_cpu_s": thousandths(row.cpu()),
                    "dd_s": thousandths(row.dd()),
                    "apply_over_dd": thousandths(row.apply_over_dd()),
                    "written": row.written(),
                }),
            );
        }
        json!({
            "pairs": pairs,
            "worst_fetched_over_ideal": thousandths(self.worst_fetched_over_ideal()),
            "apply_over_dd": thousandths(self.apply_over_dd()),
            "peak_rss_mib": thousandths(self.peak_rss_mib()),
            "host_pressure": self.pressure.map(thousandths),
        })
    }

    /// For a person.
    pub fn table(&self) -> String {
        let mut text = String::new();
        // A text in memory takes everything.
        let _ = writeln!(
            text,
            "{:<22}{:>9}{:>9}{:>7}{:>9}{:>9}{:>9}{:>9}{:>9}",
            "kB fetched", "Wherry", "ideal", "ratio", "full", "RAUC", "zchunk", "xdelta3", "bsdiff"
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "{:<22}{:>9}{:>9}{:>7.3}{:>9}{:>9}{:>9}{:>9}{:>9}",
                row.name,
                row.fetched() / 1000,
                row.sizes.ideal / 1000,
                row.fetched_over_ideal(),
                row.sizes.full / 1000,
                row.others.rauc / 1000,
                row.others.zchunk / 1000,
                row.others.xdelta3 / 1000,
                row.others.bsdiff / 1000,
            );
        }
        let _ = writeln!(
            text,
            "\n{:<22}{:>9}{:>9}{:>9}{:>9}{:>12}",
            "applied", "s", "cpu s", "dd s", "dd/it", "kB written"
        );
        for row in &self.rows {
            let _ = writeln!(
                text,
                "{:<22}{:>9.3}{:>9.3}{:>9.3}{:>9.2}{:>12}",
                row.name,
                row.time(),
                row.cpu(),
                row.dd(),
                row.apply_over_dd(),
                row.written() / 1000,
            );
        }
        text.push('\n');
        let met = |good: bool| if good { "met" } else { "MISSED" };
        for (what, value, target, good) in [
            (
                "worst fetched / ideal",
                self.worst_fetched_over_ideal(),
                format!("at most {FETCHED:.2}"),
                self.worst_fetched_over_ideal() <= FETCHED,
            ),
            (
                "apply / dd",
                self.apply_over_dd(),
                format!("at least {SPEED:.2}"),
                self.apply_over_dd() >= SPEED,
            ),
            (
                "peak memory, MiB",
                self.peak_rss_mib(),
                format!("at most {MEMORY:.0}"),
                self.peak_rss_mib() <= MEMORY,
            ),
        ] {
            let _ = writeln!(text, "{what:<26}{value:>9.3}   {target}: {}", met(good));
        }
        let fewest = self.rows.iter().all(Row::beats_rauc_and_zchunk);
        let _ = writeln!(
            text,
            "fewer bytes than RAUC and zchunk in every pair: {}",
            met(fewest)
        );
        if let Some(pressure) = self.pressure.filter(|pressure| *pressure > 0.2) {
            let _ = writeln!(
                text,
                "other programs waited for a processor {:.0} % of the time: times are too long",
                pressure * 100.0
            );
        }
        text
    }
}

fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { f64::INFINITY }
}

fn median(times: impl Iterator<Item = Duration>) -> f64 {
    let mut seconds: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied().unwrap_or_default()
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::{Applied, Figures, Others, Row, Sizes};
    use std::time::Duration;

    fn figures(fetched: u64) -> Figures {
        Figures {
            rows: vec![Row {
                name: "kernel-only".to_owned(),
                sizes: Sizes {
                    full: 19_000_000,
                    ideal: 1_000_000,
                    rauc_adaptive: 1_200_000,
                },
                others: Others {
                    rauc: 1_200_000,
                    rauc_casync: 1_300_000,
                    zchunk: 1_400_000,
                    xdelta3: 500_000,
                    bsdiff: 400_000,
                },
                applied: vec![Applied {
                    fetched,
                    time: Duration::from_millis(200),
                    cpu: Duration::from_millis(100),
                    peak_rss: 12 << 20,
                    written: 20_000_000,
                }],
                dd: vec![Duration::from_millis(150)],
            }],
            pressure: None,
        }
    }

    #[test]
    fn the_object_has_what_it_is_asked_for() {
        let object = figures(1_050_000).json();
        assert_eq!(object["pairs"]["kernel-only"]["fetched"], 1_050_000);
        assert_eq!(object["worst_fetched_over_ideal"], 1.05);
        assert_eq!(object["apply_over_dd"], 0.75);
        assert_eq!(object["peak_rss_mib"], 12.0);
    }

    #[test]
    fn a_missed_target_shows() {
        assert!(!figures(1_050_000).table().contains("MISSED"));
        let table = figures(1_250_000).table();
        assert_eq!(table.matches("MISSED").count(), 2, "{table}");
    }
}
