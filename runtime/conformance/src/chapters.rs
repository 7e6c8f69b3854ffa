//! The clauses, a module for each part of the specification.

mod capabilities;
mod devices;
mod lifecycle;
mod mounts;
mod namespaces;
mod paths;
mod process;
mod root;
mod state;

use crate::clause::Clause;

/// All clauses, in the order of the specification.
pub fn all() -> Vec<&'static Clause> {
    [
        state::CLAUSES,
        lifecycle::CLAUSES,
        root::CLAUSES,
        process::CLAUSES,
        capabilities::CLAUSES,
        mounts::CLAUSES,
        namespaces::CLAUSES,
        devices::CLAUSES,
        paths::CLAUSES,
    ]
    .into_iter()
    .flatten()
    .collect()
}
