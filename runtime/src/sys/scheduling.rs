//! When and where a process runs: scheduler, I/O priority, CPUs; and its
//! personality.

use std::ffi::{c_int, c_uint, c_ulong};
use std::ptr;

use nix::errno::Errno;

use super::check;

/// `struct sched_attr` of sched_setattr(2).
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SchedulerAttributes {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub clamp_min: u32,
    pub clamp_max: u32,
}

/// sched_setattr(2) for the calling thread.
pub fn set_scheduler(attributes: &SchedulerAttributes) -> Result<(), Errno> {
    // SAFETY: `attributes` begins with its size and lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setattr,
            0 as c_int,
            ptr::from_ref(attributes),
            0 as c_uint,
        )
    })
    .map(drop)
}

/// sched_setaffinity(2) for the calling thread; a bit for each CPU.
pub fn set_affinity(cpus: &[u64]) -> Result<(), Errno> {
    // SAFETY: length and pointer describe `cpus`.
    check(unsafe {
        libc::syscall(
            libc::SYS_sched_setaffinity,
            0 as c_int,
            size_of_val(cpus),
            cpus.as_ptr(),
        )
    })
    .map(drop)
}

/// ioprio_set(2) for the calling thread.
pub fn set_io_priority(value: u32) -> Result<(), Errno> {
    const IOPRIO_WHO_PROCESS: c_int = 1;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0 as c_int, value) })
        .map(drop)
}

/// personality(2).
pub fn set_personality(domain: u32) -> Result<(), Errno> {
    // SAFETY: no pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_personality, c_ulong::from(domain)) }).map(drop)
}
