//! The tools tree: a small Debian whose programs run on any host.

use crate::Error;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A folder with a whole Debian user space, QEMU and the makers of file systems
/// among it.
///
/// A program is started by the tree's own dynamic loader with the tree's own
/// libraries. That needs no root, no namespace and no wrapper process, so a
/// child's pid is the program's. It suits programs that take their data by
/// argument; a compiler, which finds its parts by absolute paths, needs a
/// sandbox instead (`xtask/src/tools.rs` has one).
#[derive(Debug, Clone)]
pub struct Tools {
    tree: PathBuf,
}

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

impl Tools {
    /// The tree at `tree`.
    pub fn at(tree: impl Into<PathBuf>) -> Self {
        Self { tree: tree.into() }
    }

    /// The folder itself.
    pub fn tree(&self) -> &Path {
        &self.tree
    }

    /// A file of the tree, by its path inside it.
    pub fn file(&self, path: &str) -> Result<PathBuf, Error> {
        let path = self.tree.join(path.trim_start_matches('/'));
        if path.exists() {
            Ok(path)
        } else {
            Err(Error::Missing {
                what: "a file of the tools tree",
                path,
            })
        }
    }

    /// A command that runs `program` of the tree, `mkfs.erofs` say.
    pub fn command(&self, program: &str) -> Result<Command, Error> {
        let path = self
            .file(&format!("usr/bin/{program}"))
            .or_else(|_| self.file(&format!("usr/sbin/{program}")))?;
        let libraries = self.tree.join(LIBRARIES);
        let mut command = Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(format!(
                "{}:{}",
                libraries.display(),
                libraries.join("systemd").display()
            ))
            .args(["--argv0", program])
            .arg(path)
            .env("QEMU_MODULE_DIR", libraries.join("qemu"))
            .env("MKE2FS_CONFIG", self.tree.join("etc/mke2fs.conf"));
        Ok(command)
    }
}
