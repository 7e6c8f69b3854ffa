//! Names for content: two things with one fingerprint are the same thing.

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// The bits of a mode that say what kind of file it is.
const KIND: u32 = 0o170_000;
/// The bit of a mode that git keeps.
const EXECUTABLE: u32 = 0o100;

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
    /// names, kinds, executability and link targets; time stamps, owners and the
    /// umask do not count.
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
        // The rest of a mode is this host's umask, or nobody's business.
        let mode = metadata.permissions().mode() & (KIND | EXECUTABLE);
        self.add(name, &mode.to_le_bytes());
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
    fn a_checkout_has_one_fingerprint_whatever_the_umask_was() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a");
        fs::write(&file, "1").unwrap();
        let with = |file_mode, folder_mode| {
            for (path, mode) in [(file.as_path(), file_mode), (folder.path(), folder_mode)] {
                let mode = std::os::unix::fs::PermissionsExt::from_mode(mode);
                fs::set_permissions(path, mode).unwrap();
            }
            let mut fingerprint = Fingerprint::of("test");
            fingerprint.path(folder.path()).unwrap().finish()
        };
        assert_eq!(with(0o644, 0o755), with(0o664, 0o775));
        assert_ne!(with(0o644, 0o755), with(0o744, 0o755));
    }

    #[test]
    fn parts_do_not_run_together() {
        let of = |a: &str, b: &str| Fingerprint::of("test").text("n", a).text("n", b).finish();
        assert_ne!(of("ab", "c"), of("a", "bc"));
    }
}
