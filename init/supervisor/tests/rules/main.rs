//! Each rule of the specification, one test a rule.

mod clients;
mod defining;
mod failing;
mod machine;
mod names_of_services;
mod probing;
mod restarting_after_an_end;
mod settling;
mod shutting_down;
mod starting;
mod stopping;
