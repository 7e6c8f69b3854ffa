//! The one system call that nix has no safe wrapper for.
#![allow(unsafe_code)]

use std::os::fd::{AsFd, AsRawFd};

mod raw {
    nix::ioctl_write_ptr!(ext4_ioc_resize_fs, b'f', 16, u64);
}

/// Grows the mounted ext4 file system that `directory` is on to `blocks` of its
/// own block size (`EXT4_IOC_RESIZE_FS`). The kernel journals the growth and
/// zeroes the new inode tables later; it needs CAP_SYS_RESOURCE.
pub fn resize_ext4(directory: impl AsFd, blocks: u64) -> nix::Result<()> {
    // SAFETY: the descriptor is open for the duration of the call, and the
    // kernel reads one u64 from a pointer that is valid for as long. On a file
    // system that is not ext4 the number is unknown (ENOTTY) or, as 'f' 16 is
    // ext4's alone, without effect on our memory.
    unsafe { raw::ext4_ioc_resize_fs(directory.as_fd().as_raw_fd(), &blocks) }.map(drop)
}
