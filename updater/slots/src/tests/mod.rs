//! Tests of the machine.

mod explore;
mod model;
mod steps;
