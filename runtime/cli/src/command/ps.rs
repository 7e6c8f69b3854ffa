//! `ps`.

use std::collections::HashSet;
use std::ffi::OsString;
use std::io::{Write, stdout};
use std::process::Command;

use anyhow::{Context, Result, anyhow, bail};

use crate::arguments::{Format, Ps};
use crate::state::{Container, Status};
use crate::store::Store;

pub fn run(store: &Store, options: &Ps) -> Result<()> {
    let container = Container::load(store, &options.id)?;
    let processes: Vec<i32> = match container.status()? {
        Status::Stopped => Vec::new(),
        _ => container.processes()?,
    };
    match options.format {
        Format::Json => {
            let text = serde_json::to_string(&processes).context("the list of processes")?;
            writeln!(stdout(), "{text}").context("print the processes")
        }
        Format::Table => {
            let text = table(&options.options, &processes.into_iter().collect())?;
            stdout()
                .write_all(text.as_bytes())
                .context("print the processes")
        }
    }
}

/// What ps(1) prints about these processes.
fn table(options: &[OsString], processes: &HashSet<i32>) -> Result<String> {
    let default = [OsString::from("-ef")];
    let options = if options.is_empty() {
        &default
    } else {
        options
    };
    let output = Command::new("ps")
        .args(options)
        .output()
        .context("run ps, which prints the table (--format json needs no other program)")?;
    if !output.status.success() {
        bail!("ps: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    filter(&text, processes).ok_or_else(|| anyhow!("ps printed no column PID"))
}

fn filter(text: &str, processes: &HashSet<i32>) -> Option<String> {
    let mut lines = text.lines();
    let head = lines.next()?;
    let column = head.split_whitespace().position(|word| word == "PID")?;
    let of_container = |line: &&str| {
        let word = line.split_whitespace().nth(column);
        word.and_then(|word| word.parse().ok())
            .is_some_and(|pid| processes.contains(&pid))
    };
    let rows = lines.filter(of_container);
    Some(
        std::iter::once(head)
            .chain(rows)
            .map(|line| format!("{line}\n"))
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_containers_processes_are_shown() {
        let text = "UID  PID PPID CMD\nroot   1    0 init 7\nroot   7    1 sh\n";
        let shown = filter(text, &HashSet::from([7]));
        assert_eq!(
            shown.as_deref(),
            Some("UID  PID PPID CMD\nroot   7    1 sh\n")
        );
        assert_eq!(filter("CMD\nsh\n", &HashSet::from([7])), None);
    }
}
