//! The clauses, a module for each part of the specification.

mod capabilities;
mod cgroups;
mod commands;
mod device_rules;
mod devices;
mod features;
mod hooks;
mod hostile_root;
mod lifecycle;
mod mount_options;
mod mounts;
mod namespaces;
mod paths;
mod process;
mod refusal;
mod robustness;
mod root;
mod run;
mod seccomp;
mod seccomp_listener;
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
        mount_options::CLAUSES,
        namespaces::CLAUSES,
        devices::CLAUSES,
        paths::CLAUSES,
        cgroups::CLAUSES,
        device_rules::CLAUSES,
        seccomp::CLAUSES,
        seccomp_listener::CLAUSES,
        hooks::CLAUSES,
        terminal::CLAUSES,
        run::CLAUSES,
        commands::CLAUSES,
        features::CLAUSES,
        refusal::CLAUSES,
        security::CLAUSES,
        hostile_root::CLAUSES,
        robustness::CLAUSES,
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    #[test]
    fn no_two_clauses_have_one_title() {
        let mut titles = BTreeSet::new();
        for clause in super::all() {
            assert!(titles.insert(clause.title()), "{} is twice", clause.title());
        }
    }

    #[test]
    fn each_clause_names_a_document_or_an_attack_and_says_something() {
        for clause in super::all() {
            assert!(!clause.section.is_empty() && !clause.section.ends_with(' '));
            assert!(clause.text.len() > 5, "{}", clause.title());
            assert!(!clause.text.ends_with('.'), "{}", clause.title());
        }
    }
}
