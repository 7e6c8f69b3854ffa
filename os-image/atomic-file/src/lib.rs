//! A file that is replaced as a whole: whoever opens it reads the old or the new
//! content, and so does the next boot after a power cut.
//!
//! ```text
//! write .new-NAME ─▶ sync it ─▶ rename it to NAME ─▶ sync the folder
//! ```
//!
//! Without the first sync a power cut can leave the new name with no content;
//! without the second, [`replace`] could return and the old content come back.
//! The name of the new file is fixed, so what an interrupted run leaves is
//! overwritten by the next one and never piles up; in return there may be only
//! one writer of a file at a time.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What the name of a file that is not whole yet begins with.
pub const NEW: &str = ".new-";

/// How a file is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The new file's permission bits, whatever the umask is; `None`: what the
    /// umask leaves of 0666.
    pub mode: Option<u32>,
    /// Whether to wait until it survives a power cut. Not needed on a tmpfs.
    pub sync: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: None,
            sync: true,
        }
    }
}

/// Replaces the file, or makes it. Its folder must exist.
///
/// # Errors
/// What the system refuses. The old content is still there, unless only the last
/// step failed; what was written beside it is removed.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    replace_with(path, content, Options::default())
}

/// The same for a file that need not survive a power cut: one on a tmpfs.
///
/// # Errors
/// As [`replace`].
pub fn replace_volatile(path: &Path, content: &[u8]) -> io::Result<()> {
    let options = Options {
        sync: false,
        ..Options::default()
    };
    replace_with(path, content, options)
}

/// The same, as told.
///
/// # Errors
/// As [`replace`].
pub fn replace_with(path: &Path, content: &[u8], options: Options) -> io::Result<()> {
    let new = new_path(path);
    let put = || {
        write(&new, content, options)?;
        fs::rename(&new, path)
    };
    put().inspect_err(|_| {
        // Half a file would take space that a full disk does not have.
        let _ = fs::remove_file(&new);
    })?;
    if options.sync {
        sync_folder(folder(path))?;
    }
    Ok(())
}

/// Waits until the names in a folder survive a power cut.
///
/// # Errors
/// The folder cannot be opened, or the disk cannot be written.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// The folder that a path is in.
fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

/// Where the new content is written. What interrupted runs left has this name.
pub fn new_path(path: &Path) -> PathBuf {
    let mut name = OsString::from(NEW);
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn write(new: &Path, content: &[u8], options: Options) -> io::Result<()> {
    match fs::remove_file(new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // create_new: nobody's link is followed.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(options.mode.unwrap_or(0o666))
        .open(new)?;
    file.write_all(content)?;
    if let Some(mode) = options.mode {
        file.set_permissions(Permissions::from_mode(mode))?;
    }
    if options.sync {
        file.sync_all()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_made_and_replaced_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.json");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        replace_volatile(&path, b"three").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"three");
        assert_eq!(names(folder.path()), ["a.json"]);
    }

    #[test]
    fn who_has_the_old_file_open_reads_the_old_content() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        replace(&path, b"old").unwrap();
        let mut old = File::open(&path).unwrap();
        replace(&path, b"new").unwrap();
        let mut text = String::new();
        io::Read::read_to_string(&mut old, &mut text).unwrap();
        assert_eq!(text, "old");
    }

    #[test]
    fn what_an_interrupted_run_left_is_overwritten_and_no_link_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        let other = folder.path().join("other");
        fs::write(&other, "untouched").unwrap();
        std::os::unix::fs::symlink(&other, new_path(&path)).unwrap();
        replace(&path, b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        assert_eq!(fs::read(&other).unwrap(), b"untouched");
        assert!(!fs::symlink_metadata(&path).unwrap().is_symlink());
    }

    #[test]
    fn the_mode_is_the_one_asked_for_from_the_first_moment() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        for mode in [0o600, 0o666] {
            let options = Options {
                mode: Some(mode),
                sync: true,
            };
            replace_with(&path, b"x", options).unwrap();
            let permissions = fs::metadata(&path).unwrap().permissions();
            assert_eq!(permissions.mode() & 0o777, mode);
        }
    }

    #[test]
    fn a_file_that_cannot_be_replaced_keeps_its_content_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        assert!(replace(&path, b"x").is_err(), "a folder is in its place");
        assert_eq!(names(folder.path()), ["a"]);
        assert!(replace(&folder.path().join("missing/a"), b"x").is_err());
    }

    #[test]
    fn a_name_without_a_folder_is_in_the_current_one() {
        assert_eq!(folder(Path::new("a")), Path::new("."));
        assert_eq!(folder(Path::new("b/a")), Path::new("b"));
    }
}
