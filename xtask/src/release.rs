//! `cargo xtask release`: builds the image as a release and publishes it in a
//! folder, with `wherry-release`'s library.
//!
//! Keys for development are made in `build/keys` where there are none. No image
//! trusts them: an image trusts the root that `--trust` names, and without it
//! none.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use machine::Build;
use release::Version;
use wherry_release::progress::{Bar, Progress};
use wherry_release::{Init, KeyFolder, Publish, Published, ReleaseFolder, Repository, WaveRule};

use crate::image;
use crate::variant::Variant;
use crate::workspace::Workspace;

/// What can be typed after `cargo xtask release`.
#[derive(Debug, Clone, Args)]
pub struct Options {
    /// The release's version
    #[arg(long)]
    pub version: Version,
    /// The channel on which it is published
    #[arg(long)]
    pub channel: String,
    /// The repository's folder; without it, build/repository
    #[arg(long, value_name = "FOLDER")]
    pub repository: Option<PathBuf>,
    /// The folder of keys; without it, build/keys, where some are made
    #[arg(long, value_name = "FOLDER")]
    pub keys: Option<PathBuf>,
    /// The root that machines with this image trust (root.json of the keys' folder)
    #[arg(long, value_name = "FILE")]
    pub trust: Option<PathBuf>,
    /// A folder whose files are put over the image's root
    #[arg(long, value_name = "FOLDER")]
    pub overlay: Option<PathBuf>,
    /// The oldest version from which machines can be updated to this one
    #[arg(long, value_name = "VERSION")]
    pub min_version: Option<Version>,
    /// A part of the fleet and from when on, as in 10%@+6h; several, ascending
    #[arg(long = "wave", value_name = "PERCENT%@TIME")]
    pub waves: Vec<WaveRule>,
    /// A text file: what is new
    #[arg(long, value_name = "FILE")]
    pub notes: Option<PathBuf>,
    /// A further address of the repository; several
    #[arg(long = "mirror", value_name = "URL")]
    pub mirrors: Vec<String>,
    /// Prints one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Builds and publishes.
pub fn release(workspace: &Workspace, options: &Options) -> Result<()> {
    let _lock = workspace.lock()?;
    let repository = options
        .repository
        .clone()
        .unwrap_or_else(|| workspace.build.join("repository"));
    let notes = match &options.notes {
        Some(path) => {
            fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?
        }
        None => String::new(),
    };
    let open = || open(workspace, options.keys.as_deref(), &repository);
    // What cannot work is found out before the long part, in which nobody else
    // has to wait.
    drop(open()?);
    let build = build(
        workspace,
        &options.version,
        &Variant {
            overlay: options.overlay.clone(),
            trust: options.trust.clone(),
            ..Variant::default()
        },
    )?;
    let publish = Publish {
        channel: options.channel.clone(),
        min_version: options.min_version.clone(),
        waves: options.waves.clone(),
        notes,
        mirrors: (!options.mirrors.is_empty()).then(|| options.mirrors.clone()),
    };
    let mut repository = open()?;
    let done = publish_build(&mut repository, &build, &options.version, &publish)?;
    for warning in &done.warnings {
        eprintln!("warning: {warning}");
    }
    if options.json {
        println!("{}", serde_json::to_string(&done)?);
    } else {
        println!(
            "{} {} on {} in {}\nmachines trust it by {}",
            done.version,
            if done.changed {
                "published"
            } else {
                "is published already"
            },
            done.channel,
            repository.folder().display(),
            repository.trust().display()
        );
    }
    Ok(())
}

/// Opens a repository, or makes one, with these keys or those for development.
pub fn open(workspace: &Workspace, keys: Option<&Path>, folder: &Path) -> Result<Repository> {
    let keys = match keys {
        Some(keys) => KeyFolder::open(keys)?,
        None => {
            let path = workspace.build.join("keys");
            if path.exists() {
                KeyFolder::open(&path)?
            } else {
                KeyFolder::make(&path, 3)?
            }
        }
    };
    let repository = if folder.join("metadata/timestamp.json").exists() {
        Repository::open(folder, keys)
    } else {
        Repository::init(folder, keys, &Init::default())
    };
    repository.with_context(|| format!("open the repository {}", folder.display()))
}

/// Builds a release, in `build/release`: `build/image` stays what `cargo xtask
/// run` boots.
pub fn build(workspace: &Workspace, version: &Version, variant: &Variant) -> Result<Build> {
    let folder = workspace.build.join("release");
    image::make_variant(&workspace.with_version(version.as_str()), variant, &folder)
}

/// Publishes what a build made.
pub fn publish_build(
    repository: &mut Repository,
    build: &Build,
    version: &Version,
    publish: &Publish,
) -> Result<Published> {
    let progress = Bar::new();
    let folder = build.directory().join("artifacts");
    let release = release_folder(build, version, &folder, &progress)?;
    let published = repository.publish(&release, publish, &progress)?;
    fs::remove_dir_all(&folder).with_context(|| format!("remove {}", folder.display()))?;
    Ok(published)
}

/// The files of a build under the names that a release has, as links in `folder`.
fn release_folder(
    build: &Build,
    version: &Version,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<ReleaseFolder> {
    if folder.exists() {
        fs::remove_dir_all(folder).with_context(|| format!("remove {}", folder.display()))?;
    }
    fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let mut files = image::artifacts(build, version.as_str())?;
    files.push((build.disk_image()?, format!("wherry_{version}.raw")));
    for (from, name) in files {
        let to = folder.join(name);
        fs::hard_link(&from, &to)
            .with_context(|| format!("link {} to {}", from.display(), to.display()))?;
    }
    Ok(ReleaseFolder::open(folder, Some(version), progress)?)
}
