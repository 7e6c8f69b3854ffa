//! The tests that were skipped: `requirement` (`tests/requirement`) adds a line
//! for each to a file in the build folder.

use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::fs;
use std::io;
use std::path::PathBuf;

/// Forgets those of the last run.
pub fn forget(workspace: &Workspace) -> Result<()> {
    let path = record(workspace);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// What there is to say of those of this run; nothing where there are none.
pub fn summary(workspace: &Workspace) -> Option<String> {
    let text = fs::read_to_string(record(workspace)).ok()?;
    Some(summarise(&text))
}

fn summarise(record: &str) -> String {
    let lines: Vec<&str> = record.lines().collect();
    format!("skipped: {}\n  {}", lines.len(), lines.join("\n  "))
}

/// `requirement::RECORD`, which `xtask` does not depend on.
fn record(workspace: &Workspace) -> PathBuf {
    workspace.build.join("skipped-tests")
}

#[cfg(test)]
mod tests {
    use super::summarise;

    #[test]
    fn skipped_tests_are_counted_and_listed() {
        assert_eq!(
            summarise("a: needs root\nb: needs a loop device: none\n"),
            "skipped: 2\n  a: needs root\n  b: needs a loop device: none"
        );
    }
}
