//! Which boot entry systemd-boot chooses.

use std::cmp::Ordering;

use crate::Entry;

/// systemd-boot's order of unified kernel images with one sort key, the
/// preferred one first (Boot Loader Specification, "Sorting", and boot.c's
/// `boot_entry_compare`): those without tries left last, the newest version
/// first, then more tries left, then fewer done.
pub fn order(a: &Entry, b: &Entry) -> Ordering {
    let tries = |entry: &Entry| entry.tries;
    a.is_bad()
        .cmp(&b.is_bad())
        .then_with(|| b.version.cmp(&a.version))
        .then_with(|| match (tries(a), tries(b)) {
            (Some(a), Some(b)) => b.left.cmp(&a.left).then(a.done.cmp(&b.done)),
            _ => Ordering::Equal,
        })
        .then_with(|| b.file.cmp(&a.file))
}

/// What the loader boots next. One without tries left too, where there is no
/// other.
pub fn loader_choice(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().min_by(|a, b| order(a, b))
}
