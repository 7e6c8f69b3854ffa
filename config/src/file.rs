//! A configuration file as a text of bounded length.

use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;

use crate::Error;

/// Reads a file of at most `longest` bytes; `None` where there is no file.
///
/// # Errors
/// It cannot be read, is longer, or is not UTF-8.
pub fn read(path: &Path, longest: usize) -> Result<Option<String>, Error> {
    let error = |what: String| Error::of_file(path.display().to_string(), what);
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| {
        // One more, to see that it is longer.
        file.take(longest as u64 + 1).read_to_end(&mut bytes)
    });
    match read {
        Ok(length) if length > longest => Err(error(format!(
            "is too long: it may have {longest} bytes at most"
        ))),
        Ok(_) => String::from_utf8(bytes)
            .map(Some)
            .map_err(|cause| error(format!("cannot be read: {}", cause.utf8_error()))),
        Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(error(format!("cannot be read: {cause}"))),
    }
}
