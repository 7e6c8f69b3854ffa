//! config.md, Process.

use crate::clause::Clause;

pub const CLAUSES: &[Clause] = &[];
