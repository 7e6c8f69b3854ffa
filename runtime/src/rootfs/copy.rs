//! Copies of what a mount is going to cover (`tmpcopyup`). Allocates nothing.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, openat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstat, fstatat, mkdirat,
    mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchownat, symlinkat};

use super::resolve::kind;
use crate::sys;

/// Deeper trees are refused: each level uses some of the stack.
const DEPTH: usize = 64;
const ENTRIES: usize = 4096;

/// Copies a directory's contents, with owners, modes and times, and its own owner and mode.
pub(super) fn copy_contents(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let itself = fstat(from)?;
    let from = openat(from, c".", READ, Mode::empty())?;
    let to = openat(to, c".", READ, Mode::empty())?;
    copy_entries(from.as_fd(), to.as_fd(), DEPTH)?;
    copy_attributes(to.as_fd(), c".", &itself)
}

const READ: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);

fn copy_entries(from: BorrowedFd<'_>, to: BorrowedFd<'_>, depth: usize) -> Result<(), Errno> {
    let mut buffer = [0_u8; ENTRIES];
    loop {
        let mut entries = sys::read_directory(from, &mut buffer)?;
        if entries.is_empty() {
            return Ok(());
        }
        while let Some((name, rest)) = next_entry(entries) {
            if name != c"." && name != c".." {
                copy_entry(from, to, name, depth)?;
            }
            entries = rest;
        }
    }
}

/// The name of the first `struct linux_dirent64`, and the entries after it.
fn next_entry(entries: &[u8]) -> Option<(&CStr, &[u8])> {
    const NAME: usize = 8 + 8 + 2 + 1;
    let length = u16::from_ne_bytes([*entries.get(16)?, *entries.get(17)?]);
    let (entry, rest) = entries.split_at_checked(usize::from(length))?;
    let name = CStr::from_bytes_until_nul(entry.get(NAME..)?).ok()?;
    Some((name, rest))
}

fn copy_entry(
    from: BorrowedFd<'_>,
    to: BorrowedFd<'_>,
    name: &CStr,
    depth: usize,
) -> Result<(), Errno> {
    let original = fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW)?;
    match kind(&original) {
        SFlag::S_IFDIR => {
            let depth = depth.checked_sub(1).ok_or(Errno::ELOOP)?;
            mkdirat(to, name, Mode::S_IRWXU)?;
            let below = openat(from, name, READ, Mode::empty())?;
            let copy = openat(to, name, READ, Mode::empty())?;
            copy_entries(below.as_fd(), copy.as_fd(), depth)?;
        }
        SFlag::S_IFREG => copy_file(from, to, name)?,
        SFlag::S_IFLNK => {
            let mut text = [0_u8; libc::PATH_MAX as usize];
            let length = sys::read_link(from, name, &mut text)?.len();
            let text = text.get(..=length).ok_or(Errno::ENAMETOOLONG)?;
            let text = CStr::from_bytes_until_nul(text).map_err(|_| Errno::EINVAL)?;
            symlinkat(text, to, name)?;
        }
        other => mknodat(to, name, other, Mode::S_IRUSR, original.st_rdev)?,
    }
    copy_attributes(to, name, &original)
}

fn copy_file(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    let common = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let from = openat(from, name, common | OFlag::O_RDONLY, Mode::empty())?;
    let to = openat(
        to,
        name,
        common | OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL,
        Mode::S_IRUSR,
    )?;
    while sys::copy_some(from.as_fd(), to.as_fd())? > 0 {}
    Ok(())
}

fn copy_attributes(
    directory: BorrowedFd<'_>,
    name: &CStr,
    original: &FileStat,
) -> Result<(), Errno> {
    fchownat(
        directory,
        name,
        Some(Uid::from_raw(original.st_uid)),
        Some(Gid::from_raw(original.st_gid)),
        AtFlags::AT_SYMLINK_NOFOLLOW,
    )?;
    if kind(original) != SFlag::S_IFLNK {
        // Made by us just now, so it is no link. After the owner: that clears set-id bits.
        let mode = Mode::from_bits_truncate(original.st_mode & 0o7777);
        fchmodat(directory, name, mode, FchmodatFlags::FollowSymlink)?;
    }
    utimensat(
        directory,
        name,
        &TimeSpec::new(original.st_atime, original.st_atime_nsec),
        &TimeSpec::new(original.st_mtime, original.st_mtime_nsec),
        UtimensatFlags::NoFollowSymlink,
    )
}
