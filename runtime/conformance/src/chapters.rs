//! The clauses, a module for each part of the specification.

mod lifecycle;
mod process;
mod state;

use crate::clause::Clause;

/// All clauses, in the order of the specification.
pub fn all() -> Vec<&'static Clause> {
    [state::CLAUSES, lifecycle::CLAUSES, process::CLAUSES]
        .into_iter()
        .flatten()
        .collect()
}
