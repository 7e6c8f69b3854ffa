//! The kernel: Debian's source, our configuration, the tools tree's compiler.
//!
//! A finished kernel is kept by the content that it was made of. Objects are
//! kept by source and compiler, so that a changed fragment compiles only what
//! depends on it.

use crate::fingerprint::Fingerprint;
use crate::kernel_config::Fragments;
use crate::kernel_needs::Needs;
use crate::process;
use crate::progress::Stage;
use crate::tools;
use crate::tools::Tools;
use crate::workspace::Workspace;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The stage.
pub const STAGE: &str = "kernel";

/// The Debian package with the source.
pub const SOURCE: &str = "linux-source-6.12";

/// What the kernel says of its own making; pinned, so that two builds are equal.
const PINNED: [&str; 3] = [
    "KBUILD_BUILD_TIMESTAMP=Thu Jan  1 00:00:00 UTC 2026",
    "KBUILD_BUILD_USER=wherry",
    "KBUILD_BUILD_HOST=wherry",
];

/// Steps of a build from nothing, as make prints them; for the progress bar only.
const STEPS: u64 = 3200;

/// A finished kernel.
#[derive(Debug, Clone)]
pub struct Kernel {
    folder: PathBuf,
    /// Names the content that it was made of.
    pub key: String,
    /// The version of its Debian source package.
    pub source: String,
}

impl Kernel {
    /// The compressed kernel, as it goes into the unified kernel image.
    pub fn bzimage(&self) -> PathBuf {
        self.folder.join("bzImage")
    }

    /// Its release, `6.12.57` say.
    pub fn release(&self) -> Result<String> {
        let path = self.folder.join("release");
        let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        Ok(text.trim().to_owned())
    }
}

/// Makes sure that the kernel is there, and points `build/kernel` at it.
pub fn make(workspace: &Workspace, tree: &Tools) -> Result<Kernel> {
    let kernel = make_numbered(workspace, tree, 1)?;
    tools::link(&kernel.folder, &workspace.build.join("kernel"))?;
    Ok(kernel)
}

/// The same kernel as its `number`th build, of which the kernel tells: the least
/// change that there can be to one.
pub fn make_numbered(workspace: &Workspace, tree: &Tools, number: u32) -> Result<Kernel> {
    let recipe = Recipe::of(workspace, tree, number)?;
    let folder = recipe.folder(workspace);
    let complete = folder.join("complete");
    if !complete.exists() {
        let _lock = workspace.lock_cache()?;
        // Somebody else may have made it while this waited.
        if !complete.exists() {
            build(workspace, tree, &recipe, &folder)?;
            fs::write(&complete, "")?;
        }
    }
    let config = fs::read_to_string(folder.join("config")).context("read the kernel's config")?;
    Needs::load(&workspace.root.join("kernel-config/needs.toml"))?.check(&config)?;
    Ok(Kernel {
        folder,
        key: recipe.key(),
        source: recipe.source,
    })
}

/// Whether the kernel is there already.
pub fn is_made(workspace: &Workspace, tree: &Tools) -> Result<bool> {
    let recipe = Recipe::of(workspace, tree, 1)?;
    Ok(recipe.folder(workspace).join("complete").exists())
}

/// Whether any kernel is there.
pub fn is_any_made(workspace: &Workspace) -> bool {
    fs::read_dir(workspace.cache.join("kernel"))
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.path().join("complete").exists())
}

/// What a kernel is made of. Only versions of the source and of the compiler come
/// from the tools tree: another package in it makes no other kernel.
struct Recipe {
    source: String,
    compiler: String,
    fragments: Fragments,
    pinned: Vec<String>,
}

impl Recipe {
    fn of(workspace: &Workspace, tree: &Tools, number: u32) -> Result<Self> {
        Ok(Self {
            source: tools::package_version(tree, SOURCE)?,
            compiler: format!(
                "gcc {} binutils {}",
                tools::package_version(tree, "gcc-14")?,
                tools::package_version(tree, "binutils")?
            ),
            fragments: Fragments::load(&workspace.root.join("kernel-config"))?,
            pinned: PINNED
                .map(str::to_owned)
                .into_iter()
                .chain([format!("KBUILD_BUILD_VERSION={number}")])
                .collect(),
        })
    }

    fn key(&self) -> String {
        Fingerprint::of("kernel 2")
            .text("source", &self.source)
            .text("compiler", &self.compiler)
            .text("options", &self.fragments.options())
            .text("pinned", &self.pinned.join("\n"))
            .finish()
    }

    fn objects(&self) -> String {
        Fingerprint::of("objects 1")
            .text("source", &self.source)
            .text("compiler", &self.compiler)
            .finish()
    }

    fn folder(&self, workspace: &Workspace) -> PathBuf {
        workspace.cache.join("kernel").join(self.key())
    }
}

fn build(workspace: &Workspace, tree: &Tools, recipe: &Recipe, folder: &Path) -> Result<()> {
    let objects = workspace
        .cache
        .join("kernel/objects")
        .join(recipe.objects());
    let before = objects.join("vmlinux").exists();
    let mut stage = Stage::begin(
        &workspace.progress,
        STAGE,
        if before {
            "building what changed"
        } else {
            "building (once for this configuration, about 16 minutes on 2 cores)"
        },
    );
    if !before {
        stage.expect_more(STEPS);
    }
    let work = Work {
        tree,
        log: workspace.log("kernel"),
        source: unpack(workspace, tree, &recipe.source)?,
        objects,
        pinned: recipe.pinned.clone(),
    };
    work.build(&recipe.fragments, &mut stage, folder)?;
    stage.end();
    Ok(())
}

/// The unpacked source of this version.
fn unpack(workspace: &Workspace, tree: &Tools, version: &str) -> Result<PathBuf> {
    let home = workspace.cache.join("kernel/source").join(version);
    let source = home.join(SOURCE);
    if home.join("complete").exists() {
        return Ok(source);
    }
    if home.exists() {
        fs::remove_dir_all(&home)?;
    }
    fs::create_dir_all(&home)?;
    let archive = tree.file(&format!("usr/src/{SOURCE}.tar.xz"))?;
    let archive = archive.strip_prefix(tree.tree()).unwrap_or(&archive);
    process::run(
        tools::sandbox(tree, &[(&home, "/source")], "tar")
            .args(["--no-same-owner", "-C", "/source", "-xf"])
            .arg(Path::new("/").join(archive)),
        &workspace.log("kernel"),
        |_| {},
    )?;
    fs::write(home.join("complete"), "")?;
    Ok(source)
}

struct Work<'a> {
    tree: &'a Tools,
    log: PathBuf,
    source: PathBuf,
    objects: PathBuf,
    pinned: Vec<String>,
}

impl Work<'_> {
    fn build(&self, fragments: &Fragments, stage: &mut Stage, result: &Path) -> Result<()> {
        fs::create_dir_all(&self.objects)?;
        fs::write(self.objects.join("merged.config"), fragments.merged())?;
        process::run(
            self.make("allnoconfig")
                .arg("KCONFIG_ALLCONFIG=/objects/merged.config"),
            &self.log,
            |_| {},
        )?;
        let config = self.objects.join(".config");
        fragments.check(&fs::read_to_string(&config)?)??;

        let jobs = std::thread::available_parallelism().map_or(1, usize::from);
        process::run(
            self.make("bzImage").arg(format!("-j{jobs}")),
            &self.log,
            |line| {
                if let Some(what) = step(line) {
                    stage.step(what);
                }
            },
        )
        .context("cannot build the kernel")?;
        self.keep(result)
    }

    fn keep(&self, result: &Path) -> Result<()> {
        fs::create_dir_all(result)?;
        for (from, to) in [
            (".config", "config"),
            ("arch/x86/boot/bzImage", "bzImage"),
            ("include/config/kernel.release", "release"),
        ] {
            fs::copy(self.objects.join(from), result.join(to))
                .with_context(|| format!("keep the kernel's {to}"))?;
        }
        // The entry for a direct boot (PVH) is a note, which stripping leaves.
        process::run(
            tools::sandbox(
                self.tree,
                &[(&self.objects, "/objects"), (result, "/result")],
                "strip",
            )
            .args(["--strip-all", "-o", "/result/vmlinux", "/objects/vmlinux"]),
            &self.log,
            |_| {},
        )
    }

    fn make(&self, target: &str) -> Command {
        let mut make = tools::sandbox(
            self.tree,
            &[(&self.source, "/source"), (&self.objects, "/objects")],
            "make",
        );
        make.args(["-C", "/source", "O=/objects", target])
            .args(&self.pinned);
        make
    }
}

/// What a line of make's says that it does: `CC      kernel/fork.o`.
fn step(line: &str) -> Option<&str> {
    let (verb, what) = line.strip_prefix("  ")?.split_once(' ')?;
    let is_verb = !verb.is_empty()
        && verb
            .chars()
            .all(|c| c.is_ascii_uppercase() || c.is_ascii_digit());
    is_verb.then(|| what.trim())
}

#[cfg(test)]
mod tests {
    use super::step;

    #[test]
    fn makes_steps_are_told_from_its_other_words() {
        assert_eq!(step("  CC      kernel/fork.o"), Some("kernel/fork.o"));
        assert_eq!(
            step("  HOSTCC  scripts/basic/fixdep"),
            Some("scripts/basic/fixdep")
        );
        assert_eq!(step("make[1]: Entering directory"), None);
        assert_eq!(step("  warning: something"), None);
    }
}
