//! The figures of all runs, against what they are to reach.

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use std::fmt::Write as _;

/// What a container's start may cost.
mod target {
    /// PID 1's path, in multiples of crun.
    pub const INIT_OVER_CRUN: f64 = 0.4;
    /// `wherry-runtime`, in multiples of crun.
    pub const CLI_OVER_CRUN: f64 = 0.75;
    /// With five times as many containers at once, each may cost this much more.
    pub const GROWTH: f64 = 1.25;
}

/// The order in which they are shown.
const NAMES: [&str; 6] = ["floor", "init", "wherry-runtime", "crun", "runc", "youki"];

/// Controllers whose limits every container has where the machine has them.
const LIMITS: [&str; 3] = ["cpu", "memory", "pids"];

/// From this share of time on in which programs waited for a processor, times
/// say more about the host than about what was measured.
const BUSY: f64 = 0.5;

/// What was measured, as `runtime-bench` printed it.
#[derive(Debug)]
pub struct Figures {
    measured: Value,
    pressure: Option<f64>,
}

/// The middle of many, and the range that four fifths of them are in.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Figures {
    /// The figures of what the program printed.
    pub fn of(printed: &str, pressure: Option<f64>) -> Result<Self> {
        let measured: Value = serde_json::from_str(printed.trim())?;
        measured["start_ms"]
            .as_object()
            .context("there are no starts")?;
        Ok(Self { measured, pressure })
    }

    fn spread(&self, what: &str, name: &str) -> Option<Spread> {
        let samples = self.measured[what][name].as_array()?;
        Spread::of(samples.iter().filter_map(Value::as_f64).collect())
    }

    fn median(&self, what: &str, name: &str) -> Option<f64> {
        self.spread(what, name).map(|spread| spread.median)
    }

    fn over_crun(&self, name: &str) -> Option<f64> {
        Some(self.median("start_ms", name)? / self.median("start_ms", "crun")?)
    }

    fn peak_mib(&self, name: &str) -> Option<f64> {
        Some(self.measured["peak_rss_kib"][name].as_f64()? / 1024.0)
    }

    fn list(&self, what: &str) -> impl Iterator<Item = &Value> {
        self.measured[what].as_array().into_iter().flatten()
    }

    /// Bursts of a runtime: containers, failures, milliseconds for each to start
    /// and to go.
    fn bursts(&self, name: &str) -> Vec<(u64, u64, f64, f64)> {
        self.list("burst")
            .filter(|burst| burst["runtime"] == name)
            .filter_map(|burst| {
                let count = burst["count"].as_u64()?;
                let each = |key: &str| Some(burst[key].as_f64()? / count as f64);
                Some((
                    count,
                    burst["failures"].as_u64()?,
                    each("start_ms")?,
                    each("stop_ms")?,
                ))
            })
            .collect()
    }

    /// Failures of what is ours.
    fn burst_failures(&self) -> u64 {
        ["init", "wherry-runtime"]
            .iter()
            .flat_map(|name| self.bursts(name))
            .map(|(_, failures, ..)| failures)
            .sum()
    }

    /// What a container costs in the larger burst, in multiples of the smaller.
    fn growth(&self, name: &str) -> Option<f64> {
        let bursts = self.bursts(name);
        let (first, last) = (bursts.first()?, bursts.last()?);
        Some((last.2 + last.3) / (first.2 + first.3))
    }

    /// Per running container: processes beside it, their MiB, and KiB of state.
    fn resident(&self, name: &str) -> Option<(f64, f64, f64)> {
        let of = self
            .list("resident")
            .find(|resident| resident["runtime"] == name)?;
        let count = of["count"].as_f64()?;
        let each = |key: &str| Some(of[key].as_f64()? / count);
        Some((
            each("processes")?,
            (each("processes_kib")? + each("caller_kib")?) / 1024.0,
            each("state_kib")?,
        ))
    }

    /// Of what is ours, the larger: processes of ours beside a container.
    fn resident_mib(&self) -> f64 {
        ["init", "wherry-runtime"]
            .iter()
            .filter_map(|name| self.resident(name))
            .map(|(_, mib, _)| mib)
            .fold(0.0, f64::max)
    }

    /// The limits that the containers could not be given.
    fn missing_limits(&self) -> Vec<&str> {
        let has = |name: &str| {
            self.list("controllers")
                .any(|controller| controller == name)
        };
        LIMITS.into_iter().filter(|name| !has(name)).collect()
    }

    /// One object for machines.
    pub fn json(&self) -> Value {
        let by_name = |of: &dyn Fn(&str) -> Option<Value>| -> Value {
            let all: Map<String, Value> = NAMES
                .iter()
                .filter_map(|name| Some(((*name).to_owned(), of(name)?)))
                .collect();
            Value::Object(all)
        };
        let number = |value: Option<f64>| value.map(|value| json!(thousandths(value)));
        let spread = |what: &str| {
            by_name(&|name| {
                let Spread { low, high, .. } = self.spread(what, name)?;
                Some(json!([thousandths(low), thousandths(high)]))
            })
        };
        json!({
            "runs": self.measured["start_ms"]["floor"].as_array().map(Vec::len),
            "median_ms": by_name(&|name| number(self.median("start_ms", name))),
            "spread_ms": spread("start_ms"),
            "peak_rss_mib": by_name(&|name| number(self.peak_mib(name))),
            "init_over_crun": number(self.over_crun("init")),
            "cli_over_crun": number(self.over_crun("wherry-runtime")),
            "lifecycle_ms": by_name(&|name| number(self.median("lifecycle_ms", name))),
            "exec_ms": by_name(&|name| number(self.median("exec_ms", name))),
            "exec_spread_ms": spread("exec_ms"),
            "resident_mib_per_container": thousandths(self.resident_mib()),
            "resident": self.measured["resident"],
            "burst_failures": self.burst_failures(),
            "burst_growth": by_name(&|name| number(self.growth(name))),
            "burst": self.measured["burst"],
            "missing_limits": self.missing_limits(),
            "failures": self.measured["failures"],
            "versions": self.measured["versions"],
            "host_pressure": self.pressure.map(thousandths),
            "targets": {
                "init_over_crun": target::INIT_OVER_CRUN,
                "cli_over_crun": target::CLI_OVER_CRUN,
                "burst_growth": target::GROWTH,
                "burst_failures": 0,
                "resident_processes": 0,
            },
        })
    }

    /// A table for people.
    pub fn table(&self) -> String {
        let mut table = String::new();
        let mut line = |text: &str| {
            // Writing to a String does not fail.
            let _ = writeln!(table, "{}", text.trim_end());
        };
        line(&format!(
            "{:<18}{:>9}{:>17}{:>12}{:>10}{:>10}",
            "", "start", "(10-90 %)", "3 calls", "exec", "peak RSS"
        ));
        let ms = |value: Option<f64>| {
            value.map_or_else(|| "-".to_owned(), |value| format!("{value:.2} ms"))
        };
        for name in NAMES {
            let start = self.spread("start_ms", name);
            if start.is_none() && name != "youki" {
                continue;
            }
            line(&format!(
                "{name:<18}{:>9}{:>17}{:>12}{:>10}{:>10}",
                ms(start.map(|spread| spread.median)),
                start.map_or_else(String::new, |spread| format!(
                    "{:.2}-{:.2}",
                    spread.low, spread.high
                )),
                ms(self.median("lifecycle_ms", name)),
                ms(self.median("exec_ms", name)),
                self.peak_mib(name)
                    .map_or_else(|| "-".to_owned(), |mib| format!("{mib:.1} MiB")),
            ));
        }
        line("");
        for (what, value, target) in [
            (
                "init / crun",
                self.over_crun("init"),
                target::INIT_OVER_CRUN,
            ),
            (
                "wherry-runtime / crun",
                self.over_crun("wherry-runtime"),
                target::CLI_OVER_CRUN,
            ),
        ] {
            let text = value.map_or_else(|| "not measured".to_owned(), |v| format!("{v:.2}"));
            line(&format!(
                "{what:<36}{text:>12}   {}",
                verdict(&format!("{target:.2}"), value.is_some_and(|v| v <= target))
            ));
        }
        for name in ["init", "wherry-runtime", "crun"] {
            for (count, failures, start, stop) in self.bursts(name) {
                line(&format!(
                    "{:<36}{start:>9.2} ms   {stop:.2} ms to go, {failures} failed",
                    format!("{name}: each of {count} at once")
                ));
            }
            if let Some(growth) = self.growth(name) {
                let text = if name == "crun" {
                    String::new()
                } else {
                    verdict(&format!("{:.2}", target::GROWTH), growth <= target::GROWTH)
                };
                line(&format!(
                    "{:<36}{growth:>12.2}   {text}",
                    "  more of them / fewer"
                ));
            }
        }
        line(&format!(
            "{:<36}{:>12}   {}",
            "failed at once, of ours",
            self.burst_failures(),
            verdict("0", self.burst_failures() == 0)
        ));
        for name in ["init", "wherry-runtime"] {
            if let Some((processes, mib, state)) = self.resident(name) {
                line(&format!(
                    "{:<36}{mib:>8.3} MiB   {processes:.0} processes, {state:.1} KiB of state; {}",
                    format!("{name}: beside each container"),
                    verdict("0 processes", processes == 0.0)
                ));
            }
        }
        let missing = self.missing_limits();
        if !missing.is_empty() {
            line(&format!(
                "\nThe machine's cgroup v2 tree has no {}: no container had these limits. \
                 --guest measures with all.",
                missing.join(", ")
            ));
        }
        if self.median("start_ms", "youki").is_none() {
            line("\nyouki is not here.");
        }
        for (name, reason) in self.measured["failures"].as_object().into_iter().flatten() {
            line(&format!(
                "\n{name} failed: {}",
                reason.as_str().unwrap_or_default()
            ));
        }
        if let Some(pressure) = self.pressure.filter(|pressure| *pressure > BUSY) {
            line(&format!(
                "\nPrograms waited for a processor {:.0} % of the time: times are too long.",
                pressure * 100.0
            ));
        }
        table
    }
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |share: usize| values.get((last * share + 5) / 10).copied();
        Some(Self {
            low: at(1)?,
            median: at(5)?,
            high: at(9)?,
        })
    }
}

fn verdict(target: &str, met: bool) -> String {
    let word = if met { "met" } else { "MISSED" };
    format!("at most {target}: {word}")
}

fn thousandths(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::{Figures, Spread};
    use serde_json::json;

    fn figures(init: f64) -> Figures {
        let printed = json!({
            "controllers": ["pids"],
            "start_ms": {
                "floor": [1.0, 1.0, 1.0], "init": [init, init, 50.0],
                "wherry-runtime": [6.0, 6.0, 6.0], "crun": [10.0, 10.0, 10.0],
            },
            "lifecycle_ms": {}, "exec_ms": {}, "failures": { "youki": "is broken" },
            "peak_rss_kib": { "init": 2048 },
            "burst": [
                { "runtime": "init", "count": 100, "failures": 0, "start_ms": 200.0, "stop_ms": 100.0 },
                { "runtime": "init", "count": 500, "failures": 1, "start_ms": 1000.0, "stop_ms": 1000.0 },
            ],
            "resident": [
                { "runtime": "wherry-runtime", "count": 50, "processes": 0, "processes_kib": 0,
                  "caller_kib": 0, "state_kib": 200 },
            ],
        });
        Figures::of(&printed.to_string(), None).unwrap()
    }

    #[test]
    fn the_spread_leaves_a_tenth_out_at_each_end() {
        let values = (0..=10).map(f64::from).collect();
        let spread = Spread::of(values).unwrap();
        assert_eq!((spread.low, spread.median, spread.high), (1.0, 5.0, 9.0));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn the_object_has_what_it_is_asked_for() {
        let json = figures(3.0).json();
        assert_eq!(json["median_ms"]["init"], 3.0);
        assert_eq!(json["median_ms"]["floor"], 1.0);
        assert_eq!(json["peak_rss_mib"]["init"], 2.0);
        assert_eq!(json["init_over_crun"], 0.3);
        assert_eq!(json["cli_over_crun"], 0.6);
        assert_eq!(json["resident_mib_per_container"], 0.0);
        assert_eq!(json["burst_failures"], 1);
        assert_eq!(json["missing_limits"], json!(["cpu", "memory"]));
    }

    #[test]
    fn a_missed_target_and_a_missing_limit_show() {
        let table = figures(3.0).table();
        assert!(table.contains("at most 0.40: met"), "{table}");
        assert!(table.contains("at most 0: MISSED"), "{table}");
        assert!(table.contains("has no cpu, memory"), "{table}");
        assert!(table.contains("youki failed: is broken"), "{table}");
        let table = figures(4.5).table();
        assert!(table.contains("at most 0.40: MISSED"), "{table}");
    }
}
