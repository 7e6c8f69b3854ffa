//! `list`.

use std::io::{Write, stdout};

use anyhow::{Context, Result};

use crate::arguments::{Format, List};
use crate::log;
use crate::state::{Container, Shown};
use crate::store::Store;

pub fn run(store: &Store, options: &List) -> Result<()> {
    let ids = store.ids()?;
    if options.quiet {
        let text: String = ids.iter().map(|id| format!("{id}\n")).collect();
        return print(&text);
    }
    let mut containers = Vec::new();
    for id in &ids {
        match Container::load(store, id) {
            Ok(container) => containers.push(container),
            Err(error) => log::warn(&format!("{id}: {error:#}")),
        }
    }
    let shown = containers
        .iter()
        .map(Shown::of)
        .collect::<Result<Vec<_>>>()?;
    match options.format {
        Format::Json => print(&format!(
            "{}\n",
            serde_json::to_string(&shown).context("the list")?
        )),
        Format::Table => print(&table(&shown)),
    }
}

fn table(containers: &[Shown<'_>]) -> String {
    let head = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(String::from);
    let rows: Vec<[String; 6]> = std::iter::once(head)
        .chain(containers.iter().map(|container| {
            [
                container.id.to_string(),
                container.pid.to_string(),
                container.status.to_string(),
                container.bundle.display().to_string(),
                container.created.to_string(),
                container.owner.clone(),
            ]
        }))
        .collect();
    // As in runc: columns are at least 12 wide, with three blanks between them.
    let widths: [usize; 6] = std::array::from_fn(|column| {
        let widest = rows.iter().map(|row| row[column].chars().count()).max();
        widest.unwrap_or(0).max(9) + 3
    });
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths);
            let line: String = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            format!("{}\n", line.trim_end())
        })
        .collect()
}

fn print(text: &str) -> Result<()> {
    stdout()
        .write_all(text.as_bytes())
        .context("print the list")
}
