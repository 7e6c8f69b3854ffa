//! The stages of `cargo xtask`, in the order in which a build goes through them:
//! tools tree, kernel, crates, staged root, image.

pub mod apt;
pub mod crates;
pub mod disk;
pub mod elf;
pub mod fingerprint;
pub mod guest;
pub mod image;
pub mod kernel;
pub mod kernel_config;
pub mod kernel_needs;
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
