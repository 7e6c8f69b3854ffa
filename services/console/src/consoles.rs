//! Which terminals are consoles.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::arguments::Arguments;

/// Where the kernel lists the consoles that it prints on.
const ACTIVE: &str = "/sys/class/tty/console/active";

/// A console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Console {
    /// Its name, such as `ttyS0`.
    pub name: String,
    /// Its device node.
    pub path: PathBuf,
}

impl Console {
    fn new(word: &str) -> Self {
        let path = Path::new("/dev").join(word);
        Self {
            name: path
                .strip_prefix("/dev")
                .unwrap_or(&path)
                .display()
                .to_string(),
            path,
        }
    }

    /// What kind of terminal a program has to expect: the kernel's own, or at
    /// the end of a line something that knows a VT220's sequences.
    pub fn term(&self) -> &'static str {
        let is_virtual = self
            .name
            .strip_prefix("tty")
            .is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()));
        if is_virtual { "linux" } else { "vt220" }
    }
}

/// The consoles that were named, or the kernel's.
///
/// # Errors
/// The kernel's list cannot be read.
pub fn find(arguments: &Arguments) -> Result<Vec<Console>, String> {
    if !arguments.consoles.is_empty() {
        return Ok(parse(&arguments.consoles.join(" ")));
    }
    let list = std::fs::read_to_string(ACTIVE)
        .map_err(|error| format!("cannot read the list of consoles {ACTIVE}: {error}"))?;
    Ok(parse(&list))
}

/// Reads the kernel's list, each console once. `tty0` is whichever virtual
/// terminal is in front; a shell must stay on one, the first.
fn parse(list: &str) -> Vec<Console> {
    let mut seen = BTreeSet::new();
    list.split_whitespace()
        .map(|word| if word == "tty0" { "tty1" } else { word })
        .map(Console::new)
        .filter(|console| seen.insert(console.path.clone()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_list_becomes_device_nodes() {
        let consoles = parse("tty0 ttyS0\n");
        let found: Vec<_> = consoles
            .iter()
            .map(|it| (it.name.as_str(), it.path.to_str().unwrap(), it.term()))
            .collect();
        assert_eq!(
            found,
            [
                ("tty1", "/dev/tty1", "linux"),
                ("ttyS0", "/dev/ttyS0", "vt220")
            ]
        );
    }

    #[test]
    fn a_console_that_is_named_twice_has_one_shell() {
        assert_eq!(parse("tty0 tty1 hvc0 /dev/hvc0").len(), 2);
        assert!(parse("\n").is_empty());
    }

    #[test]
    fn a_path_stays_a_path() {
        let console = Console::new("/dev/pts/3");
        assert_eq!(console.name, "pts/3");
        assert_eq!(console.path, PathBuf::from("/dev/pts/3"));
    }
}
