//! Paths of the container, resolved and made inside its root.

use std::ffi::CStr;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, mkdirat, mknodat};

use crate::error::Step;
use crate::report::{At, Failure};

/// Resolves a path inside the root, following links inside it only.
pub(super) fn resolve(root: &OwnedFd, path: &CStr, plain: bool) -> Result<OwnedFd, Errno> {
    let mut how = ResolveFlag::RESOLVE_IN_ROOT;
    if plain {
        how |= ResolveFlag::RESOLVE_NO_SYMLINKS;
    }
    openat2(
        root,
        path,
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(how),
    )
}

/// Resolves a path that need not be there.
pub(super) fn existing(root: &OwnedFd, path: &CStr) -> Result<Option<OwnedFd>, Errno> {
    match resolve(root, path, false) {
        Ok(fd) => Ok(Some(fd)),
        Err(Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

pub(super) fn is_directory(fd: &OwnedFd) -> Result<bool, Errno> {
    Ok(SFlag::from_bits_truncate(fstat(fd)?.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR)
}

/// The mount point of `tree`, made like its root (a directory or a file) where there is none.
pub(super) fn mount_point<'a>(
    root: &OwnedFd,
    target: &CStr,
    plain: bool,
    tree: &OwnedFd,
    label: &'a [u8],
) -> Result<OwnedFd, Failure<'a>> {
    match resolve(root, target, plain) {
        Err(Errno::ENOENT) => {}
        result => return result.at(Step::MountTarget, label),
    }
    is_directory(tree)
        .and_then(|directory| make(root, target, directory))
        .at(Step::MountPoint, label)?;
    resolve(root, target, plain).at(Step::MountTarget, label)
}

/// An existing or new directory inside the root.
pub(super) fn directory(root: &OwnedFd, path: &CStr) -> Result<OwnedFd, Errno> {
    match resolve(root, path, false) {
        Err(Errno::ENOENT) => make(root, path, true).and_then(|()| resolve(root, path, false)),
        result => result,
    }
}

/// Makes what is missing of a path inside the root; the last part is a directory or an empty file.
///
/// Each part is resolved anew from the root, so links among the existing parts
/// count; what is made is made by its bare name in the directory that was
/// resolved, where a link, even a dangling one, is not followed.
fn make(root: &OwnedFd, path: &CStr, last_is_directory: bool) -> Result<(), Errno> {
    let bytes = path.to_bytes();
    let mut prefix = [0_u8; libc::PATH_MAX as usize];
    let mut parent: Option<OwnedFd> = None;
    let mut start = 0;
    while start < bytes.len() {
        if bytes[start] == b'/' {
            start += 1;
            continue;
        }
        let end = bytes[start..]
            .iter()
            .position(|byte| *byte == b'/')
            .map_or(bytes.len(), |length| start + length);
        let last = bytes[end..].iter().all(|byte| *byte == b'/');
        prefix[..end].copy_from_slice(&bytes[..end]);
        prefix[end] = 0;
        let Ok(whole) = CStr::from_bytes_with_nul(&prefix[..=end]) else {
            return Err(Errno::EINVAL);
        };
        let Ok(name) = CStr::from_bytes_with_nul(&prefix[start..=end]) else {
            return Err(Errno::EINVAL);
        };
        let found = match resolve(root, whole, false) {
            Err(Errno::ENOENT) => {
                let directory = parent.as_ref().unwrap_or(root);
                if last && !last_is_directory {
                    let mode = Mode::from_bits_truncate(0o644);
                    return mknodat(directory, name, SFlag::S_IFREG, mode, 0);
                }
                mkdirat(directory, name, Mode::from_bits_truncate(0o755))?;
                resolve(root, whole, false)?
            }
            result => result?,
        };
        parent = Some(found);
        start = end;
    }
    Ok(())
}
