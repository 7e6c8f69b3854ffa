//! The table of clauses and runtimes.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::Result;
use serde::Serialize;

use crate::isolation::Verdict;

/// A runtime of the table.
#[derive(Debug, Serialize)]
pub struct Runtime {
    pub name: String,
    pub path: PathBuf,
    pub version: String,
}

/// A clause and its result with each runtime.
#[derive(Debug, Serialize)]
pub struct Row {
    pub section: String,
    pub clause: String,
    pub level: String,
    pub verdicts: Vec<Verdict>,
}

/// All results of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub runtimes: Vec<Runtime>,
    pub kernel: String,
    pub rows: Vec<Row>,
}

/// Passed, failed, untried.
type Count = (usize, usize, usize);

impl Report {
    /// Whether nothing failed for the first runtime.
    pub fn first_passed(&self) -> bool {
        self.rows
            .iter()
            .all(|row| !matches!(row.verdicts.first(), Some(Verdict::Fail(_))))
    }

    fn count(&self, at: usize) -> Count {
        let of = |test: fn(&Verdict) -> bool| {
            let verdicts = self.rows.iter().filter_map(|row| row.verdicts.get(at));
            verdicts.filter(|verdict| test(verdict)).count()
        };
        (
            of(|verdict| *verdict == Verdict::Pass),
            of(|verdict| matches!(verdict, Verdict::Fail(_))),
            of(|verdict| matches!(verdict, Verdict::Untried(_))),
        )
    }

    /// One JSON object.
    pub fn json(&self) -> Result<String> {
        Ok(serde_json::to_string_pretty(self)?)
    }

    /// For people: a line per clause, then the reasons of failures.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for row in &self.rows {
            for verdict in &row.verdicts {
                let _ = write!(text, "{:<5}", short(verdict));
            }
            let _ = writeln!(text, "{}: {}", row.section, row.clause);
            for (verdict, runtime) in row.verdicts.iter().zip(&self.runtimes) {
                let (Verdict::Fail(why) | Verdict::Untried(why)) = verdict else {
                    continue;
                };
                for (at, line) in why.lines().take(12).enumerate() {
                    let name = if at == 0 { runtime.name.as_str() } else { "" };
                    let _ = writeln!(text, "        {name:<8} {line}");
                }
            }
        }
        for (at, runtime) in self.runtimes.iter().enumerate() {
            let (passed, failed, untried) = self.count(at);
            let _ = writeln!(
                text,
                "{} ({}): {passed} passed, {failed} failed, {untried} cannot be tried here",
                runtime.name, runtime.version
            );
        }
        text
    }

    /// The table of the documentation: sums, all clauses, then the reasons of
    /// failures.
    pub fn markdown(&self) -> String {
        let mut text = format!("Kernel {}.\n\n", self.kernel);
        let _ = writeln!(text, "| runtime | version | passed | failed | not tried |");
        let _ = writeln!(text, "|---|---|---|---|---|");
        for (at, runtime) in self.runtimes.iter().enumerate() {
            let (passed, failed, untried) = self.count(at);
            let _ = writeln!(
                text,
                "| {} | {} | {passed} | {failed} | {untried} |",
                runtime.name, runtime.version
            );
        }
        let names: Vec<&str> = self.runtimes.iter().map(|r| r.name.as_str()).collect();
        let _ = writeln!(
            text,
            "\n| section | clause | level | {} |",
            names.join(" | ")
        );
        let _ = writeln!(text, "|---|---|---|{}", "---|".repeat(names.len()));
        for row in &self.rows {
            let verdicts: Vec<&str> = row.verdicts.iter().map(cell).collect();
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} |",
                escape(&row.section),
                escape(&row.clause),
                row.level,
                verdicts.join(" | ")
            );
        }
        let _ = writeln!(text, "\n## What failed or could not be tried\n");
        for row in &self.rows {
            let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
            for (verdict, runtime) in row.verdicts.iter().zip(&self.runtimes) {
                let reason = match verdict {
                    Verdict::Pass => continue,
                    Verdict::Fail(why) => format!("fails: {}", first_line(why)),
                    Verdict::Untried(why) => format!("not tried: {}", first_line(why)),
                };
                match reasons.iter_mut().find(|(known, _)| *known == reason) {
                    Some((_, names)) => names.push(&runtime.name),
                    None => reasons.push((reason, vec![&runtime.name])),
                }
            }
            for (reason, names) in reasons {
                let _ = writeln!(
                    text,
                    "- {}: {} — {} {}",
                    escape(&row.section),
                    escape(&row.clause),
                    names.join(", "),
                    escape(&reason)
                );
            }
        }
        text
    }
}

fn short(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "ok",
        Verdict::Fail(_) => "FAIL",
        Verdict::Untried(_) => "-",
    }
}

fn cell(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Pass => "pass",
        Verdict::Fail(_) => "**fail**",
        Verdict::Untried(_) => "–",
    }
}

fn first_line(text: &str) -> &str {
    let line = text.lines().next().unwrap_or_default();
    line.char_indices()
        .nth(240)
        .map_or(line, |(at, _)| &line[..at])
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        let runtime = |name: &str| Runtime {
            name: name.to_owned(),
            path: PathBuf::from("/bin").join(name),
            version: format!("{name} 1"),
        };
        let row = |clause: &str, verdicts: [Verdict; 2]| Row {
            section: "config.md#root".to_owned(),
            clause: clause.to_owned(),
            level: "must".to_owned(),
            verdicts: verdicts.into(),
        };
        let failed = || Verdict::Fail("one | two\nmore".to_owned());
        Report {
            runtimes: vec![runtime("a"), runtime("b")],
            kernel: "6.12".to_owned(),
            rows: vec![
                row("first", [Verdict::Pass, failed()]),
                row("second", [Verdict::Untried("no disk".to_owned()), failed()]),
            ],
        }
    }

    #[test]
    fn what_failed_for_another_runtime_does_not_count_for_the_first() {
        let mut report = report();
        assert!(report.first_passed());
        report.rows[0].verdicts.swap(0, 1);
        assert!(!report.first_passed());
    }

    #[test]
    fn the_table_has_sums_a_row_a_clause_and_reasons() {
        let text = report().markdown();
        assert!(text.contains("| a | a 1 | 1 | 0 | 1 |"), "{text}");
        assert!(text.contains("| b | b 1 | 0 | 2 | 0 |"), "{text}");
        assert!(
            text.contains("| config.md#root | first | must | pass | **fail** |"),
            "{text}"
        );
        assert!(
            text.contains("- config.md#root: first — b fails: one \\| two\n"),
            "{text}"
        );
        assert!(text.contains("a not tried: no disk"), "{text}");
    }

    #[test]
    fn json_has_a_verdict_for_each_runtime() {
        let text = report().json().unwrap_or_default();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        assert_eq!(value["rows"][0]["verdicts"][0], "pass");
        assert_eq!(value["rows"][1]["verdicts"][0]["untried"], "no disk");
    }
}
