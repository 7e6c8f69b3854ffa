//! Names for content: two things with one fingerprint are the same thing.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// A SHA-256 over named parts.
#[derive(Default)]
pub struct Fingerprint(Sha256);

impl Fingerprint {
    /// An empty one; `kind` and its number keep different things apart.
    pub fn of(kind: &str) -> Self {
        let mut this = Self::default();
        this.add("kind", kind.as_bytes());
        this
    }

    /// Adds a named text.
    pub fn text(&mut self, name: &str, text: &str) -> &mut Self {
        self.add(name, text.as_bytes());
        self
    }

    /// Adds a file's content, or that of all files below a folder with their
    /// names, modes and link targets; time stamps and owners do not count.
    pub fn path(&mut self, path: &Path) -> Result<&mut Self> {
        self.entry("", path)
            .with_context(|| format!("read {}", path.display()))?;
        Ok(self)
    }

    /// The fingerprint: 16 hexadecimal digits are enough for a cache's keys.
    pub fn finish(&self) -> String {
        self.0
            .clone()
            .finalize()
            .iter()
            .take(8)
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }

    fn entry(&mut self, name: &str, path: &Path) -> io::Result<()> {
        let metadata = fs::symlink_metadata(path)?;
        self.add(name, &metadata.permissions().mode().to_le_bytes());
        if metadata.is_symlink() {
            let target = fs::read_link(path)?;
            self.add("link", target.as_os_str().as_encoded_bytes());
        } else if metadata.is_dir() {
            let mut names: Vec<_> = fs::read_dir(path)?
                .map(|entry| Ok(entry?.file_name()))
                .collect::<io::Result<_>>()?;
            names.sort();
            for child in names {
                let name = format!("{name}/{}", child.to_string_lossy());
                self.entry(&name, &path.join(&child))?;
            }
        } else {
            self.0.update(metadata.len().to_le_bytes());
            io::copy(&mut File::open(path)?, &mut self.0)?;
        }
        Ok(())
    }

    fn add(&mut self, name: &str, value: &[u8]) {
        for part in [name.as_bytes(), value] {
            self.0.update((part.len() as u64).to_le_bytes());
            self.0.update(part);
        }
    }
}

/// The SHA-256 of a file, in hexadecimal.
pub fn sha256(path: &Path) -> Result<String> {
    let mut hash = Sha256::new();
    let mut file = File::open(path).with_context(|| format!("open {}", path.display()))?;
    io::copy(&mut file, &mut hash).with_context(|| format!("read {}", path.display()))?;
    Ok(hash.finalize().iter().map(|b| format!("{b:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::Fingerprint;
    use std::fs;

    #[test]
    fn a_folder_has_another_fingerprint_after_any_change_that_shows_in_the_image() {
        let folder = tempfile::tempdir().unwrap();
        let of = || {
            Fingerprint::of("test")
                .path(folder.path())
                .unwrap()
                .finish()
        };
        let mut seen = vec![of()];
        let mut changed = || {
            let now = of();
            assert!(!seen.contains(&now));
            seen.push(now);
        };
        fs::write(folder.path().join("a"), "1").unwrap();
        changed();
        fs::write(folder.path().join("a"), "2").unwrap();
        changed();
        fs::rename(folder.path().join("a"), folder.path().join("b")).unwrap();
        changed();
        std::os::unix::fs::symlink("b", folder.path().join("c")).unwrap();
        changed();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs::set_permissions(folder.path().join("b"), mode).unwrap();
        changed();
        fs::create_dir(folder.path().join("d")).unwrap();
        changed();
    }

    #[test]
    fn parts_do_not_run_together() {
        let of = |a: &str, b: &str| Fingerprint::of("test").text("n", a).text("n", b).finish();
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }
}
