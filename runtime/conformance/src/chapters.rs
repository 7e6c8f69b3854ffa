//! The clauses, a module for each part of the specification.

mod capabilities;
mod cgroups;
mod commands;
mod devices;
mod hooks;
mod lifecycle;
mod mounts;
mod namespaces;
mod paths;
mod process;
mod refusal;
mod root;
mod seccomp;
mod security;
mod state;
mod terminal;

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
        cgroups::CLAUSES,
        seccomp::CLAUSES,
        hooks::CLAUSES,
        terminal::CLAUSES,
        commands::CLAUSES,
        refusal::CLAUSES,
        security::CLAUSES,
    ]
    .into_iter()
    .flatten()
    .collect()
}
