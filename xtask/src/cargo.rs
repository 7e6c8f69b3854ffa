//! Cargo as a stage: its bar is read and shown as ours, its words go to a log.

use crate::process;
use crate::progress::Stage;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

/// Cargo's bar is written where standard error is no terminal too, when it is
/// told how wide that is.
const BAR: [(&str, &str); 3] = [
    ("CARGO_TERM_PROGRESS_WHEN", "always"),
    ("CARGO_TERM_PROGRESS_WIDTH", "120"),
    ("CARGO_TERM_COLOR", "never"),
];

/// Runs `cargo build` with the `arguments` that `cargo` has already, as the stage
/// `name`. Nothing is shown where nothing has to be compiled. Returns the programs
/// that it made, by their names.
pub fn build(
    workspace: &Workspace,
    cargo: &mut Command,
    name: &str,
    what: &str,
) -> Result<BTreeMap<String, PathBuf>> {
    cargo
        .args(["--message-format", "json-render-diagnostics"])
        .current_dir(&workspace.root)
        .envs(BAR);
    let mut stage: Option<Stage> = None;
    let mut programs = BTreeMap::new();
    process::watch(cargo, &workspace.log(name), |line| {
        if line.starts_with('{') {
            programs.extend(executable(line));
            return false;
        }
        if let Some((done, all, now)) = bar(line) {
            if let Some(stage) = &mut stage {
                stage.progress(done, all, now);
            }
            return false;
        }
        if stage.is_none() && line.trim_start().starts_with("Compiling ") {
            stage = Some(Stage::begin(&workspace.progress, name, what));
        }
        !line.is_empty()
    })
    .with_context(|| format!("cannot build {what}"))?;
    if let Some(stage) = stage {
        stage.end();
    }
    Ok(programs)
}

/// The counts and crates of `Building [====>   ] 12/345: syn, quote`.
fn bar(line: &str) -> Option<(u64, u64, &str)> {
    let (_, rest) = line
        .trim_start()
        .strip_prefix("Building [")?
        .split_once("] ")?;
    let (counts, crates) = rest.split_once(':').unwrap_or((rest, ""));
    let (done, all) = counts.split_once('/')?;
    Some((done.parse().ok()?, all.trim().parse().ok()?, crates.trim()))
}

/// The program that one of cargo's messages tells of.
fn executable(message: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(message).ok()?;
    let program = message["executable"].as_str()?;
    let name = message["target"]["name"].as_str()?;
    Some((name.to_owned(), PathBuf::from(program)))
}

#[cfg(test)]
mod tests {
    use super::{bar, executable};

    #[test]
    fn cargos_bar_is_read() {
        assert_eq!(
            bar("    Building [=======>         ] 12/345: syn, quote(build)"),
            Some((12, 345, "syn, quote(build)"))
        );
        assert_eq!(bar("   Compiling syn v2.0.1"), None);
    }

    #[test]
    fn a_program_is_found_among_cargos_messages() {
        let message = r#"{"reason":"compiler-artifact","target":{"name":"machine"},"executable":"/t/machine"}"#;
        let (name, path) = executable(message).unwrap();
        assert_eq!(
            (name.as_str(), path.to_str()),
            ("machine", Some("/t/machine"))
        );
        assert_eq!(
            executable(r#"{"executable":null,"target":{"name":"x"}}"#),
            None
        );
    }
}
