//! Which boot entry systemd-boot chooses.

use std::cmp::Ordering;

use layout::entry;

use crate::Entry;

/// systemd-boot's order of entries, the preferred one first
/// ([`entry::preference`]). Of two equal ones, the later file name.
pub fn order(a: &Entry, b: &Entry) -> Ordering {
    entry::preference((&a.version, a.tries), (&b.version, b.tries))
        .then_with(|| b.file.cmp(&a.file))
}

/// What the loader boots next: an entry without tries left only if there is no
/// other.
pub fn loader_choice(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().min_by(|a, b| order(a, b))
}
