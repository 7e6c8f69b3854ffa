//! Where things lie: the checkout, its build folder, the user's cache.

use crate::process;
use crate::progress::Progress;
use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;

/// The folders that every stage works in.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// The checkout.
    pub root: PathBuf,
    /// What is made from this checkout: `build/`.
    pub build: PathBuf,
    /// What is kept across checkouts, by content: `~/.cache/wherry`.
    pub cache: PathBuf,
    /// The time of the last commit, in seconds of Unix time. Every time stamp
    /// in the image is this one, so that two builds of one commit are equal.
    pub epoch: u64,
    /// What is shown of the stages.
    pub progress: Rc<Progress>,
    version: String,
}

impl Workspace {
    /// The workspace whose cargo runs this program, or that it was built from.
    pub fn find() -> Result<Self> {
        // Checkouts that share a target folder share the program too.
        let package = std::env::var_os("CARGO_MANIFEST_DIR")
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        let root = Path::new(&package)
            .parent()
            .context("the workspace's root")?
            .to_owned();
        let cache = match (std::env::var_os("XDG_CACHE_HOME"), std::env::home_dir()) {
            (Some(cache), _) if Path::new(&cache).is_absolute() => PathBuf::from(cache),
            (_, Some(home)) => home.join(".cache"),
            (_, None) => bail!("neither XDG_CACHE_HOME nor HOME is set: set one of them"),
        };
        let workspace = Self {
            epoch: epoch(&root)?,
            progress: Rc::default(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            build: root.join("build"),
            cache: cache.join("wherry"),
            root,
        };
        workspace.create()
    }

    /// The same commit, checked out at `root`.
    pub fn moved_to(&self, root: &Path) -> Result<Self> {
        Self {
            build: root.join("build"),
            root: root.to_owned(),
            ..self.clone()
        }
        .create()
    }

    fn create(self) -> Result<Self> {
        for folder in [&self.build, &self.cache] {
            fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
        }
        Ok(self)
    }

    /// The same checkout, whose release has another version.
    pub fn with_version(&self, version: &str) -> Self {
        Self {
            version: version.to_owned(),
            ..self.clone()
        }
    }

    /// Waits until no other process builds in this checkout; the lock ends with the
    /// returned value. Who needs the cache's lock too takes this one first.
    pub fn lock(&self) -> Result<Flock<File>> {
        lock(&self.build)
    }

    /// Waits until no other process makes something for the cache.
    pub fn lock_cache(&self) -> Result<Flock<File>> {
        lock(&self.cache)
    }

    /// A log file for the output of a stage's programs.
    pub fn log(&self, stage: &str) -> PathBuf {
        self.build.join("log").join(format!("{stage}.log"))
    }

    /// The release that this checkout makes: the workspace's version, if not told
    /// otherwise.
    pub fn version(&self) -> &str {
        &self.version
    }
}

/// The files of the checkout at `root`, uncommitted new ones included.
pub fn files(root: &Path) -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others"]);
    git.arg("--exclude-standard").current_dir(root);
    let files = process::output(&mut git)?;
    Ok(files.split_terminator('\0').map(str::to_owned).collect())
}

fn epoch(root: &Path) -> Result<u64> {
    if let Ok(epoch) = std::env::var("SOURCE_DATE_EPOCH") {
        return epoch
            .parse()
            .with_context(|| format!("SOURCE_DATE_EPOCH={epoch} is not a number"));
    }
    let git = Command::new("git")
        .args(["log", "-1", "--format=%ct"])
        .current_dir(root)
        .output()
        .context("run git, which tells the build's date:\n  sudo apt-get install git")?;
    String::from_utf8_lossy(&git.stdout).trim().parse().context(
        "git does not know this folder's last commit: \
         build from a clone, or set SOURCE_DATE_EPOCH",
    )
}

/// Waits until nobody else holds the lock of a folder; it ends with the returned
/// value.
pub fn lock(folder: &Path) -> Result<Flock<File>> {
    let path = folder.join(".lock");
    let file = File::create(&path).with_context(|| format!("create {}", path.display()))?;
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(lock),
        Err((file, _)) => file,
    };
    eprintln!("waiting for another cargo xtask to finish …");
    Flock::lock(file, FlockArg::LockExclusive)
        .map_err(|(_, error)| error)
        .with_context(|| format!("lock {}", path.display()))
}
