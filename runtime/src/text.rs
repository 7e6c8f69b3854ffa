//! Text and paths of a specification, in the form the kernel takes.

use std::ffi::CString;
use std::path::Path;

use crate::Error;

/// Text without a NUL byte.
pub(crate) fn c_string(field: &str, bytes: impl Into<Vec<u8>>) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::invalid(field, "holds a NUL byte"))
}

/// An absolute path of at most PATH_MAX bytes.
pub(crate) fn absolute(field: &str, path: &Path) -> Result<CString, Error> {
    if !path.is_absolute() {
        return Err(Error::invalid(field, "must be an absolute path"));
    }
    let bytes = path.as_os_str().as_encoded_bytes();
    if bytes.len() >= libc::PATH_MAX as usize {
        return Err(Error::invalid(field, "is too long for a path"));
    }
    c_string(field, bytes)
}
