//! Real containers, started from this process (which has threads), with the
//! machine's own `/usr` as their programs.
//!
//! They need root and a cgroup2 hierarchy. An ordinary user cannot create what
//! they check, so without root they print that and check nothing; the VM tests
//! start the same runtime as PID 1.

#![allow(clippy::unwrap_used, clippy::expect_used)] // All of it is a test.

mod cgroups;
mod descriptors;
mod devices;
mod exec;
mod failures;
mod fuzz;
mod harness;

mod hostile;
mod identity;
mod lifecycle;
mod mounts;
mod namespaces;
mod seccomp;
mod specification;
mod sys;
mod terminal;
mod user;
