//! `cargo xtask release`: builds the image as a release and publishes it in a
//! folder, with `wherry-release`.
//!
//! Keys for development are made in `build/keys` where there are none. No image
//! trusts them: an image trusts the root that `--trust` names, and without it
//! none.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use std::process::Command;

use crate::image::{self, Image};
use crate::variant::Variant;
use crate::workspace::Workspace;
use crate::{process, programs, tools};

/// The program that publishes.
pub const PUBLISHER: &str = "wherry-release";

/// What can be typed after `cargo xtask release`.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The release's version.
    pub version: String,
    /// The channel on which it is published.
    pub channel: String,
    /// The repository's folder; without it, `build/repository`.
    pub repository: Option<PathBuf>,
    /// The folder of keys; without it, `build/keys`, where some are made.
    pub keys: Option<PathBuf>,
    /// The root that machines with this image trust (`root.json` of the keys' folder).
    pub trust: Option<PathBuf>,
    /// A folder whose files are put over the image's root.
    pub overlay: Option<PathBuf>,
    /// The oldest version from which machines can be updated to this one.
    pub min_version: Option<String>,
    /// Parts of the fleet and from when on, ascending.
    pub waves: Vec<String>,
    /// A text file: what is new.
    pub notes: Option<PathBuf>,
    /// Further addresses of the repository.
    pub mirrors: Vec<String>,
    /// Prints one JSON object.
    pub json: bool,
}

/// Builds and publishes.
pub fn release(workspace: &Workspace, options: &Options) -> Result<()> {
    let _lock = workspace.lock()?;
    let site = Site::open(workspace, options)?;
    let folder = workspace.build.join("release/artifacts");
    tools::remove(&folder)?;
    // What cannot work is found out before the long part.
    process::output(site.publish(options, &folder)?.arg("--dry-run"))?;
    // In `build/release`: `build/image` stays what `cargo xtask run` boots.
    let image = image::make_variant(
        &workspace.with_version(&options.version),
        &Variant {
            overlay: options.overlay.clone(),
            trust: options.trust.clone(),
            ..Variant::default()
        },
        &workspace.build.join("release"),
    )?;
    lay_out(&image, &options.version, &folder)?;
    let mut publish = site.publish(options, &folder)?;
    if options.json {
        publish.arg("--json");
    }
    let said = process::output(&mut publish)?;
    tools::remove(&folder)?;
    if options.json {
        print!("{said}");
    } else {
        println!(
            "{} in {}\nmachines trust it by {}",
            said.trim_end(),
            site.repository.display(),
            site.keys.join("root.json").display()
        );
    }
    Ok(())
}

/// A repository and its keys.
struct Site<'a> {
    workspace: &'a Workspace,
    keys: PathBuf,
    repository: PathBuf,
}

impl<'a> Site<'a> {
    /// Those that the options name, or those for development, made where there are
    /// none.
    fn open(workspace: &'a Workspace, options: &Options) -> Result<Self> {
        let or = |named: &Option<PathBuf>, name: &str| match named {
            Some(path) => path.clone(),
            None => workspace.build.join(name),
        };
        let site = Self {
            workspace,
            keys: or(&options.keys, "keys"),
            repository: or(&options.repository, "repository"),
        };
        if options.keys.is_none() && !site.keys.exists() {
            let mut make = site.command()?;
            make.args(["keys", "make"]).arg(&site.keys);
            process::output(make.args(["--root-keys", "3"]))?;
        }
        if !site.repository.join("metadata/timestamp.json").exists() {
            let mut init = site.command()?;
            init.arg("init").arg(&site.repository);
            process::output(init.arg("--keys").arg(&site.keys))?;
        }
        Ok(site)
    }

    /// Publishes the files in `folder`.
    fn publish(&self, options: &Options, folder: &Path) -> Result<Command> {
        let mut command = self.command()?;
        command
            .arg("publish")
            .arg(&self.repository)
            .arg("--keys")
            .arg(&self.keys)
            .args(["--channel", &options.channel])
            .args(["--version", &options.version])
            .arg("--release")
            .arg(folder);
        if let Some(version) = &options.min_version {
            command.args(["--min-version", version]);
        }
        for wave in &options.waves {
            command.args(["--wave", wave]);
        }
        if let Some(notes) = &options.notes {
            command.arg("--notes").arg(notes);
        }
        for mirror in &options.mirrors {
            command.args(["--mirror", mirror]);
        }
        Ok(command)
    }

    fn command(&self) -> Result<Command> {
        programs::command(self.workspace, PUBLISHER)
    }
}

/// Links the files of an image into `folder`, under the names that a release has.
fn lay_out(image: &Image, version: &str, folder: &Path) -> Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut files = image.artifacts(version);
    files.push((image.disk(), format!("wherry_{version}.raw")));
    for (from, name) in files {
        let to = folder.join(name);
        fs::hard_link(&from, &to)
            .with_context(|| format!("link {} to {}", from.display(), to.display()))?;
    }
    Ok(())
}
