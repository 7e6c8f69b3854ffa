//! The states of all containers: a folder with one folder for each container.
//!
//! `docs/wherry-runtime.md` specifies the contents of a container's folder.
//! Whatever changes a container holds the folder's lock (flock) meanwhile;
//! reading needs none, because files are replaced as a whole.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::id::Id;
use crate::state::State;

const STATE: &str = "state.json";
const CONFIG: &str = "config.json";
const GATE: &str = "gate";

/// The root of the states.
#[derive(Debug)]
pub struct Store {
    root: PathBuf,
    private: bool,
}

/// The folder of one container, which may be gone by now.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
}

/// The right to change a container; ends with this value, or with the process.
#[derive(Debug)]
pub struct Lock(#[allow(dead_code)] Flock<File>);

/// There is no container of this id.
#[derive(Debug)]
pub struct NoSuchContainer(pub Id);

impl std::fmt::Display for NoSuchContainer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // runc's callers look for the first four words.
        write!(f, "container does not exist: {}", self.0)
    }
}

impl std::error::Error for NoSuchContainer {}

impl Store {
    /// The store that `--root` names, or the caller's usual one.
    pub fn new(root: Option<&Path>) -> Result<Store> {
        let user = std::env::var_os("XDG_RUNTIME_DIR")
            .filter(|folder| !folder.is_empty() && !nix::unistd::geteuid().is_root());
        let root = match (root, &user) {
            (Some(root), _) => std::path::absolute(root).context("--root")?,
            (None, Some(folder)) => Path::new(folder).join("wherry-runtime"),
            (None, None) => "/run/wherry-runtime".into(),
        };
        Ok(Store {
            root,
            private: user.is_some(),
        })
    }

    /// Makes a new container's folder, and takes its lock.
    pub fn create(&self, id: &Id) -> Result<(Folder, Lock)> {
        let folder = self.folder(id);
        loop {
            match DirBuilder::new().mode(0o700).create(&folder.path) {
                Ok(()) => {}
                // A folder without a state, which nobody has locked, is of a
                // creator that was killed before it had made anything.
                Err(error)
                    if error.kind() == io::ErrorKind::AlreadyExists && folder.is_abandoned()? => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    bail!("container with given ID already exists: {id}")
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    // In a user's runtime folder, files unused for long are
                    // removed, except those with the sticky bit.
                    let mode = if self.private { 0o1700 } else { 0o700 };
                    DirBuilder::new()
                        .recursive(true)
                        .mode(mode)
                        .create(&self.root)
                        .with_context(|| format!("make {}", self.root.display()))?;
                    continue;
                }
                Err(error) => {
                    return Err(error).with_context(|| format!("make {}", folder.path.display()));
                }
            }
            // Another one may have taken it for an abandoned container; and a
            // third may have made its own in this place since.
            if let Some(lock) = folder.lock()? {
                if folder.is_claimed() {
                    bail!("container with given ID already exists: {id}")
                }
                return Ok((folder, lock));
            }
        }
    }

    /// The folder of the container of this id.
    pub fn folder(&self, id: &Id) -> Folder {
        Folder {
            path: self.root.join(id.as_str()),
        }
    }

    /// The ids of all containers, sorted.
    pub fn ids(&self) -> Result<Vec<Id>> {
        let entries = match fs::read_dir(&self.root) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => {
                return Err(error).with_context(|| format!("read {}", self.root.display()));
            }
        };
        let mut ids: Vec<Id> = entries
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .collect();
        ids.sort();
        Ok(ids)
    }
}

impl Folder {
    /// Waits for the lock; `None` if the container is gone by then.
    pub fn lock(&self) -> Result<Option<Lock>> {
        self.flock(FlockArg::LockExclusive).map(|lock| match lock {
            Locked::Gone => None,
            Locked::ByOther => None,
            Locked::Ours(lock) => Some(lock),
        })
    }

    /// Whether a command is changing the container right now.
    pub fn is_locked(&self) -> Result<bool> {
        let lock = self.flock(FlockArg::LockSharedNonblock)?;
        Ok(matches!(lock, Locked::ByOther))
    }

    fn flock(&self, kind: FlockArg) -> Result<Locked> {
        let failed = || format!("lock {}", self.path.display());
        let folder = match File::open(&self.path) {
            Ok(folder) => folder,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Locked::Gone),
            Err(error) => return Err(error).with_context(failed),
        };
        let mut folder = folder;
        let lock = loop {
            match Flock::lock(folder, kind) {
                Ok(lock) => break lock,
                Err((back, Errno::EINTR)) => folder = back,
                Err((_, Errno::EWOULDBLOCK)) => return Ok(Locked::ByOther),
                Err((_, errno)) => return Err(errno).with_context(failed),
            }
        };
        // Removed while this command waited: a folder now in its place is
        // another container's.
        let links = nix::sys::stat::fstat(&*lock).with_context(failed)?.st_nlink;
        Ok(if links == 0 {
            Locked::Gone
        } else {
            Locked::Ours(Lock(lock))
        })
    }

    /// What is known about the container; `None` if nothing was written yet, or
    /// there is no container.
    pub fn state(&self) -> Result<Option<State>> {
        let path = self.path.join(STATE);
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let state: State =
            serde_json::from_slice(&text).with_context(|| format!("read {}", path.display()))?;
        if state.format != State::FORMAT {
            return Err(anyhow!(
                "{} has format {}, but this program knows only format {}: use the program that made it",
                path.display(),
                state.format,
                State::FORMAT
            ));
        }
        Ok(Some(state))
    }

    /// Replaces the state as a whole.
    pub fn write_state(&self, state: &State) -> Result<()> {
        let text = serde_json::to_vec(state).context("serialise the state")?;
        self.write(STATE, &text)
    }

    /// Stores the configuration that the container is created with.
    pub fn write_config(&self, config: &[u8]) -> Result<()> {
        self.write(CONFIG, config)
    }

    /// The configuration that the container was created with.
    pub fn config(&self) -> Result<Vec<u8>> {
        let path = self.path.join(CONFIG);
        fs::read(&path).with_context(|| format!("read {}", path.display()))
    }

    fn write(&self, name: &str, content: &[u8]) -> Result<()> {
        replace(&self.path.join(name), content, 0o600)
    }

    /// Calls `operation` with the path of the gate, made short enough for a
    /// socket's address wherever the folder is.
    pub fn at_gate<T>(
        &self,
        operation: impl FnOnce(&Path) -> Result<T, Errno>,
    ) -> Result<T, Errno> {
        let folder = File::open(&self.path)
            .map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)))?;
        operation(Path::new(&format!(
            "/proc/self/fd/{}/{GATE}",
            folder.as_raw_fd()
        )))
    }

    /// Whether nobody makes or has a container there.
    fn is_abandoned(&self) -> Result<bool> {
        Ok(!self.is_claimed() && !self.is_locked()?)
    }

    /// Whether a container has its state there.
    fn is_claimed(&self) -> bool {
        self.path.join(STATE).exists()
    }

    /// Whether the gate was made: from then on the container has its cgroup, and
    /// may have processes.
    pub fn has_gate(&self) -> bool {
        self.path.join(GATE).exists()
    }

    /// Removes the folder with everything in it. The state goes last: until
    /// then the container can be deleted again.
    pub fn remove(&self) -> Result<()> {
        let failed = || format!("remove {}", self.path.display());
        for name in [GATE, CONFIG, STATE] {
            match fs::remove_file(self.path.join(name)) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error).with_context(failed),
            }
        }
        match fs::remove_dir(&self.path) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            // Left by a command that was killed.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                fs::remove_dir_all(&self.path).with_context(failed)
            }
            Err(error) => Err(error).with_context(failed),
        }
    }
}

enum Locked {
    Gone,
    ByOther,
    Ours(Lock),
}

/// Replaces a file as a whole, so that nobody reads half of it. The states do not
/// survive a reboot, so nothing waits for a disk.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> Result<()> {
    let options = atomic_file::Options {
        mode: Some(mode),
        sync: false,
    };
    atomic_file::replace_with(path, content, options)
        .with_context(|| format!("write {}", path.display()))
}
