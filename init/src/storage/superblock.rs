//! Reads the ext4 superblock of a device.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

use layout::ext4::{LENGTH, OFFSET, Superblock};

use super::Error;

/// The superblock of a device; `None` where there is no ext4. Its checksum is the
/// kernel's business: that of a mounted file system can be wrong for a moment.
pub fn read(device: &Path) -> Result<Option<Superblock>, Error> {
    let mut bytes = [0; LENGTH];
    match File::open(device).and_then(|file| file.read_exact_at(&mut bytes, OFFSET)) {
        Ok(()) => Ok(Superblock::parse(&bytes)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(None),
        Err(source) => Err(Error::Path {
            doing: "read the superblock of",
            path: device.to_owned(),
            source,
        }),
    }
}
