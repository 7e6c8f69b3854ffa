//! The stages of `cargo xtask`, in the order in which a build goes through them:
//! tools tree, kernel, crates, staged root, image. What runs machines, measures or
//! publishes is a program of its own that [`programs`] builds and runs: this crate
//! depends on none of the workspace, so that it builds in seconds.

pub mod apt;
pub mod background;
pub mod bench;
pub mod cargo;
pub mod changed;
pub mod crates;
pub mod elf;
pub mod fingerprint;
pub mod guest;
pub mod hostile;
pub mod image;
pub mod kernel;
pub mod kernel_config;
pub mod kernel_needs;
pub mod libtest;
pub mod pairs;
pub mod process;
pub mod programs;
pub mod progress;
pub mod recipe;
pub mod release;
pub mod reproduce;
pub mod rootfs;
pub mod run;
pub mod sbom;
pub mod skipped;
pub mod test;
pub mod test_releases;
pub mod tools;
pub mod variant;
pub mod workspace;
pub mod youki;
