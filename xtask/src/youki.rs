//! youki, the runtime in Rust that others compare with. Debian has no package of
//! it, so cargo builds it, once; where that fails it is left out.

use crate::process;
use crate::progress::Stage;
use crate::tools;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const VERSION: &str = "0.7.0";
/// Without them it drops device rules and seccomp profiles in silence.
const FEATURES: &str = "v2,seccomp,cgroupsv2_devices";
/// What it is linked with; every Debian has it, apt needs it.
const LIBSECCOMP: &str = "/usr/lib/x86_64-linux-gnu/libseccomp.so.2";

/// The program, if it can be built here.
pub fn make(workspace: &Workspace) -> Option<PathBuf> {
    let home = workspace.cache.join("youki").join(VERSION);
    let program = home.join("bin/youki");
    if !program.exists()
        && let Err(error) = install(workspace, &home)
    {
        eprintln!("youki is left out: {error:#}");
    }
    program.exists().then_some(program)
}

fn install(workspace: &Workspace, home: &Path) -> Result<()> {
    let stage = Stage::begin(
        &workspace.progress,
        "youki",
        "building youki (once, a few minutes)",
    );
    // The name by which the linker looks for it is in a package of its own.
    let libraries = home.join("lib");
    fs::create_dir_all(&libraries).with_context(|| format!("create {}", libraries.display()))?;
    tools::link(Path::new(LIBSECCOMP), &libraries.join("libseccomp.so"))?;
    process::run(
        Command::new("cargo")
            .args(["install", "youki", "--locked", "--version", VERSION])
            .args(["--features", FEATURES, "--root"])
            .arg(home)
            .env("LIBSECCOMP_LIB_PATH", &libraries)
            .env("RUSTFLAGS", format!("-L{}", libraries.display()))
            .env("CARGO_TARGET_DIR", home.join("target")),
        &workspace.log("youki"),
        |_| {},
    )?;
    tools::remove(&home.join("target"))?;
    stage.end();
    Ok(())
}
