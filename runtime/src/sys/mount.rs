//! The calls of the mount API: open_tree, fsopen, mount_setattr, move_mount.

use std::ffi::{CStr, c_char, c_int, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;

use super::{check, descriptor};

pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
pub const MOUNT_ATTR_ATIME: u64 = 0x70;
pub const MOUNT_ATTR_NOATIME: u64 = 0x10;
pub const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
pub const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;
pub const MOUNT_ATTR_IDMAP: u64 = 0x10_0000;
const OPEN_TREE_CLONE: c_uint = 1;
const OPEN_TREE_CLOEXEC: c_uint = libc::O_CLOEXEC as c_uint;
const FSOPEN_CLOEXEC: c_uint = 1;
const FSMOUNT_CLOEXEC: c_uint = 1;
const FSCONFIG_SET_FLAG: c_uint = 0;
const FSCONFIG_SET_STRING: c_uint = 1;
const FSCONFIG_CMD_CREATE: c_uint = 6;
const FSCONFIG_CMD_RECONFIGURE: c_uint = 7;
const FSPICK_CLOEXEC: c_uint = 1;
const FSPICK_EMPTY_PATH: c_uint = 8;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x04;
const MOVE_MOUNT_T_EMPTY_PATH: c_uint = 0x40;

/// `struct mount_attr` of mount_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MountAttr {
    pub set: u64,
    pub clear: u64,
    pub propagation: u64,
    pub userns_fd: u64,
}

/// fsopen(2).
pub fn fsopen(kind: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: `kind` is a NUL-terminated string.
    descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
}

/// fspick(2): the file system of what `place` refers to, to be reconfigured.
pub fn fspick(place: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: the path is a NUL-terminated string.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_fspick,
            place.as_raw_fd(),
            c"".as_ptr(),
            FSPICK_CLOEXEC | FSPICK_EMPTY_PATH,
        )
    })
}

fn fsconfig(
    context: BorrowedFd<'_>,
    command: c_uint,
    key: *const c_char,
    value: *const c_char,
) -> Result<(), Errno> {
    // SAFETY: the callers pass NUL-terminated strings, or null where the
    // command takes none.
    check(unsafe {
        libc::syscall(
            libc::SYS_fsconfig,
            context.as_raw_fd(),
            command,
            key,
            value,
            0 as c_int,
        )
    })
    .map(drop)
}

/// Sets an option of a file system that is being configured.
pub fn fsconfig_set(
    context: BorrowedFd<'_>,
    key: &CStr,
    value: Option<&CStr>,
) -> Result<(), Errno> {
    match value {
        Some(value) => fsconfig(context, FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr()),
        None => fsconfig(context, FSCONFIG_SET_FLAG, key.as_ptr(), ptr::null()),
    }
}

/// Creates the configured file system.
pub fn fsconfig_create(context: BorrowedFd<'_>) -> Result<(), Errno> {
    fsconfig(context, FSCONFIG_CMD_CREATE, ptr::null(), ptr::null())
}

/// Applies what was set since [`fspick`].
pub fn fsconfig_reconfigure(context: BorrowedFd<'_>) -> Result<(), Errno> {
    fsconfig(context, FSCONFIG_CMD_RECONFIGURE, ptr::null(), ptr::null())
}

/// fsmount(2): a detached mount of a file system that was made.
pub fn fsmount(context: BorrowedFd<'_>, attributes: u64) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointer is passed.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_fsmount,
            context.as_raw_fd(),
            FSMOUNT_CLOEXEC,
            attributes as c_uint,
        )
    })
}

/// open_tree(2): a detached copy of the mount at `path`, and of what is mounted below it.
pub fn clone_tree(path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    clone_tree_at(libc::AT_FDCWD, path, recursive)
}

/// As [`clone_tree`], of what `place` refers to.
pub fn clone_tree_of(place: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    clone_tree_at(place.as_raw_fd(), c"", recursive)
}

fn clone_tree_at(directory: RawFd, path: &CStr, recursive: bool) -> Result<OwnedFd, Errno> {
    let mut flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as c_uint;
    }
    // SAFETY: `path` is a NUL-terminated string.
    descriptor(unsafe { libc::syscall(libc::SYS_open_tree, directory, path.as_ptr(), flags) })
}

/// move_mount(2): attaches the mount `tree` at what `target` refers to.
pub fn move_mount(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: both paths are NUL-terminated strings.
    check(unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            target.as_raw_fd(),
            c"".as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    })
    .map(drop)
}

/// mount_setattr(2) on the mount `tree`.
pub fn mount_setattr(
    tree: BorrowedFd<'_>,
    recursive: bool,
    attributes: &MountAttr,
) -> Result<(), Errno> {
    mount_setattr_at(tree.as_raw_fd(), c"", recursive, attributes)
}

/// mount_setattr(2) on the caller's whole mount tree.
pub fn mount_setattr_all(attributes: &MountAttr) -> Result<(), Errno> {
    mount_setattr_at(libc::AT_FDCWD, c"/", true, attributes)
}

fn mount_setattr_at(
    directory: RawFd,
    path: &CStr,
    recursive: bool,
    attributes: &MountAttr,
) -> Result<(), Errno> {
    let mut flags = libc::AT_EMPTY_PATH as c_uint;
    if recursive {
        flags |= libc::AT_RECURSIVE as c_uint;
    }
    // SAFETY: `path` is NUL-terminated; `attributes` is a mount_attr of the given size.
    check(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            directory,
            path.as_ptr(),
            flags,
            ptr::from_ref(attributes),
            size_of::<MountAttr>(),
        )
    })
    .map(drop)
}
