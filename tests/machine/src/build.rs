//! The folder with everything a build made.

use crate::disk::copy_sparse;
use crate::{Error, Tools};
use std::fs;
use std::path::{Path, PathBuf};

/// What `cargo xtask image` left in `build/`. Each method names one output and
/// fails, saying what to run, when it is not there.
#[derive(Debug, Clone)]
pub struct Build {
    directory: PathBuf,
}

impl Build {
    /// The build in `directory`.
    pub fn at(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
        }
    }

    /// The build that `WHERRY_BUILD` names, or `build/` of this workspace.
    pub fn from_env() -> Result<Self, Error> {
        let directory = match std::env::var_os("WHERRY_BUILD") {
            Some(directory) => PathBuf::from(directory),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("../../build"),
        };
        let directory = directory.canonicalize().map_err(|_| Error::Missing {
            what: "the build folder",
            path: directory,
        })?;
        Ok(Self { directory })
    }

    /// The folder itself.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The raw disk image.
    pub fn disk_image(&self) -> Result<PathBuf, Error> {
        self.output("the disk image", "image/wherry.raw")
    }

    /// The root file system (erofs), as it lies in its partition.
    pub fn root(&self) -> Result<PathBuf, Error> {
        self.output("the root file system", "image/wherry.root")
    }

    /// The root's hash tree (dm-verity, with superblock).
    pub fn hash_tree(&self) -> Result<PathBuf, Error> {
        self.output("the hash tree", "image/wherry.verity")
    }

    /// The unified kernel image.
    pub fn uki(&self) -> Result<PathBuf, Error> {
        self.output("the unified kernel image", "image/wherry.efi")
    }

    /// The uncompressed kernel, for a direct boot (PVH).
    pub fn vmlinux(&self) -> Result<PathBuf, Error> {
        self.output("the kernel", "kernel/vmlinux")
    }

    /// The compressed kernel.
    pub fn bzimage(&self) -> Result<PathBuf, Error> {
        self.output("the kernel", "kernel/bzImage")
    }

    /// The kernel command line that is in the unified kernel image.
    pub fn command_line(&self) -> Result<String, Error> {
        let path = self.output("the kernel command line", "image/wherry.cmdline")?;
        let text = fs::read_to_string(&path).map_err(Error::io("read", path))?;
        Ok(text.trim().to_owned())
    }

    /// The disk of the Debian guest.
    pub fn guest_disk(&self) -> Result<PathBuf, Error> {
        self.output("the Debian guest's disk", "guest/guest.erofs")
    }

    /// The disk with the programs that are tested in the Debian guest.
    pub fn guest_programs(&self) -> Result<PathBuf, Error> {
        self.output("the disk of the guest's programs", "guest/programs.erofs")
    }

    /// The tools tree that the build used.
    pub fn tools(&self) -> Result<Tools, Error> {
        self.output("the tools tree", "tools").map(Tools::at)
    }

    /// A new disk at `path` with the image on it, `bytes` large (at least the
    /// image), sparse: like a fresh machine whose disk is larger than the image.
    pub fn make_disk(&self, path: &Path, bytes: u64) -> Result<(), Error> {
        copy_sparse(&self.disk_image()?, path, bytes)
    }

    /// Where consoles of tests are saved.
    pub fn console_logs(&self) -> PathBuf {
        self.directory.join("console")
    }

    fn output(&self, what: &'static str, name: &str) -> Result<PathBuf, Error> {
        let path = self.directory.join(name);
        if path.exists() {
            Ok(path)
        } else {
            Err(Error::Missing { what, path })
        }
    }
}
