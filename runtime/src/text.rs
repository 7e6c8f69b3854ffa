//! Text and paths of a specification, in the form the kernel takes.

use std::ffi::CString;
use std::path::Path;

use crate::Error;

/// Text without a NUL byte.
pub(crate) fn c_string(field: &str, bytes: impl Into<Vec<u8>>) -> Result<CString, Error> {
    CString::new(bytes).map_err(|_| Error::invalid(field, "holds a NUL byte"))
}

/// A user or group, which is not the number that means "unchanged" in
/// setresuid(2) and chown(2): with it a process would stay root.
pub(crate) fn real_id(field: &str, id: u32) -> Result<u32, Error> {
    if id == u32::MAX {
        return Err(Error::invalid(
            field,
            format!("{id} is no user or group: it means \"unchanged\" to the kernel"),
        ));
    }
    Ok(id)
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
