//! Files that others read while they are written.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

/// What a file must survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// Nothing: it is in memory.
    Memory,
    /// The power being cut.
    Disk,
}

/// Puts a file there whole: who opens it reads the old or the new content.
pub fn replace(path: &Path, content: &[u8], sync: Sync) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let mut file = File::create(&beside)?;
    file.write_all(content)?;
    if sync == Sync::Disk {
        file.sync_all()?;
    }
    fs::rename(&beside, path)
}
