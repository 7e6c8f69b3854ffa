//! Which boot entry systemd-boot chooses.

use crate::{Entry, order};

/// What the loader boots next: an entry without tries left only if there is no
/// other.
pub fn loader_choice(entries: &[Entry]) -> Option<&Entry> {
    entries.iter().min_by(|a, b| order(a, b))
}
