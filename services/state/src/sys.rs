//! The ioctl by which the kernel is told of a change to the partition table
//! (linux/blkpg.h). Having it read the table again (BLKRRPART) is refused while
//! the root partition of the same disk is in use.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_longlong, c_void};
use std::os::fd::{AsFd, AsRawFd};
use std::ptr;

/// `BLKPG_ADD_PARTITION`.
const ADD: c_int = 1;
/// `BLKPG_RESIZE_PARTITION`.
const RESIZE: c_int = 3;

#[repr(C)]
struct Partition {
    start: c_longlong,
    length: c_longlong,
    number: c_int,
    /// `devname` and `volname`, which the kernel ignores.
    names: [u8; 128],
}

#[repr(C)]
struct Argument {
    operation: c_int,
    flags: c_int,
    data_length: c_int,
    data: *mut c_void,
}

mod raw {
    nix::ioctl_write_ptr_bad!(blkpg, nix::request_code_none!(0x12, 105), super::Argument);
}

fn blkpg(
    disk: impl AsFd,
    operation: c_int,
    number: u32,
    start: u64,
    length: u64,
) -> nix::Result<()> {
    let invalid = |_| nix::Error::EINVAL;
    let mut partition = Partition {
        start: c_longlong::try_from(start).map_err(invalid)?,
        length: c_longlong::try_from(length).map_err(invalid)?,
        number: c_int::try_from(number).map_err(invalid)?,
        names: [0; 128],
    };
    let argument = Argument {
        operation,
        flags: 0,
        data_length: size_of::<Partition>() as c_int,
        data: ptr::from_mut(&mut partition).cast(),
    };
    // SAFETY: the descriptor is open for the duration of the call. BLKPG reads
    // one `blkpg_ioctl_arg`, whose layout `Argument` has, and through its `data`
    // one `blkpg_partition`, whose layout `Partition` has; both outlive the
    // call, and nothing is written to them.
    unsafe { raw::blkpg(disk.as_fd().as_raw_fd(), &argument) }.map(drop)
}

/// Tells the kernel of a new partition: `start` and `length` in bytes.
/// Needs CAP_SYS_ADMIN.
pub fn add_partition(disk: impl AsFd, number: u32, start: u64, length: u64) -> nix::Result<()> {
    blkpg(disk, ADD, number, start, length)
}

/// Tells the kernel that a partition ends elsewhere now; also while it is in
/// use. Needs CAP_SYS_ADMIN.
pub fn resize_partition(disk: impl AsFd, number: u32, start: u64, length: u64) -> nix::Result<()> {
    blkpg(disk, RESIZE, number, start, length)
}
