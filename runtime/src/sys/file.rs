//! Calls on files whose safe versions allocate.

use std::ffi::CStr;
use std::io::Write as _;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr;

use nix::errno::Errno;

use super::check;

/// readlinkat(2): the text of a symbolic link, as much as fits; an empty name
/// means the link that `directory` refers to.
pub fn read_link<'b>(
    directory: BorrowedFd<'_>,
    name: &CStr,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], Errno> {
    // SAFETY: `name` is NUL-terminated; pointer and length describe `buffer`.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_readlinkat,
            directory.as_raw_fd(),
            name.as_ptr(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    buffer.get(..length as usize).ok_or(Errno::EIO)
}

/// getdents64(2): the next entries of a directory, none at the end.
pub fn read_directory<'b>(
    directory: BorrowedFd<'_>,
    buffer: &'b mut [u8],
) -> Result<&'b [u8], Errno> {
    // SAFETY: pointer and length describe `buffer`.
    let length = check(unsafe {
        libc::syscall(
            libc::SYS_getdents64,
            directory.as_raw_fd(),
            buffer.as_mut_ptr(),
            buffer.len(),
        )
    })?;
    buffer.get(..length as usize).ok_or(Errno::EIO)
}

/// sendfile(2): copies some more of a file; nothing at the end.
pub fn copy_some(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<usize, Errno> {
    const MUCH: usize = 1 << 30;
    // SAFETY: the offset is null, which means the file's own.
    check(unsafe {
        libc::syscall(
            libc::SYS_sendfile,
            to.as_raw_fd(),
            from.as_raw_fd(),
            ptr::null_mut::<libc::off_t>(),
            MUCH,
        )
    })
    .map(|length| length as usize)
}

/// Changes the mode of what an O_PATH descriptor refers to, by no name that
/// could lead elsewhere. `/proc` must be the machine's.
pub fn change_mode(file: BorrowedFd<'_>, mode: u32) -> Result<(), Errno> {
    // fchmodat2(2), since Linux 6.6; the C library has no number for it yet.
    const FCHMODAT2: libc::c_long = 452;
    // SAFETY: the name is NUL-terminated.
    let changed = check(unsafe {
        libc::syscall(
            FCHMODAT2,
            file.as_raw_fd(),
            c"".as_ptr(),
            mode,
            libc::AT_EMPTY_PATH,
        )
    });
    if changed != Err(Errno::ENOSYS) {
        return changed.map(drop);
    }
    let mut name = [0_u8; 32];
    let mut rest = &mut name[..];
    // The name and ten digits fit; the NUL is there.
    let _ = write!(rest, "/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: `name` is NUL-terminated: it is longer than what was written.
    check(libc::c_long::from(unsafe {
        libc::chmod(name.as_ptr().cast(), mode)
    }))
    .map(drop)
}
