//! `wherry boot-chart`: what the boot spent its time on, as one picture.
//!
//! stages: ask → arrange ([`rows`]) → draw ([`draw`]) → write

mod draw;
mod rows;
mod scale;

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use control::{BootRecord, Client, Reply, Request};

use crate::arguments::Place;
use crate::failure::Failure;
use crate::{output, status};

/// Where the picture goes when standard output is a terminal, which could show
/// it only as text.
const FILE: &str = "boot-chart.svg";

pub fn run(place: &Place, output: Option<&Path>) -> Result<(), Failure> {
    let record = ask(place)?;
    if place.json {
        return output::print_json(&record);
    }
    let picture = draw::picture(&rows::arrange(&record));
    match file(output, std::io::stdout().is_terminal()) {
        None => output::print(&picture),
        Some(file) => {
            std::fs::write(&file, picture)
                .map_err(|error| Failure::io(format!("cannot write {}", file.display()), &error))?;
            output::print(&format!("{}\n", file.display()))
        }
    }
}

fn ask(place: &Place) -> Result<BootRecord, Failure> {
    match Client::connect(&place.socket)?.ask(&Request::Boot)? {
        Reply::Boot(record) => Ok(record),
        other => Err(status::unexpected(&other)),
    }
}

/// The file to write, or `None` for standard output.
fn file(output: Option<&Path>, to_terminal: bool) -> Option<PathBuf> {
    match output {
        Some(path) if path == Path::new("-") => None,
        Some(path) => Some(path.to_owned()),
        None => to_terminal.then(|| PathBuf::from(FILE)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_filled_with_svg() {
        let named = Path::new("x.svg");
        assert_eq!(file(None, true), Some(PathBuf::from(FILE)));
        assert_eq!(file(None, false), None);
        assert_eq!(file(Some(Path::new("-")), true), None);
        assert_eq!(file(Some(named), false), Some(named.to_owned()));
    }
}
