//! bpf(2): the device programs of a cgroup.

use std::ffi::{c_int, c_long};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;

use super::{check, descriptor};

/// `struct bpf_insn`: one instruction of extended BPF.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extended {
    pub code: u8,
    /// Destination register in the low half, source register in the high one.
    pub registers: u8,
    pub offset: i16,
    pub immediate: i32,
}

const BPF_PROG_LOAD: c_int = 5;
const BPF_PROG_ATTACH: c_int = 8;
const BPF_PROG_DETACH: c_int = 9;
const BPF_PROG_GET_FD_BY_ID: c_int = 13;
const BPF_PROG_QUERY: c_int = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 2;

fn bpf<T>(command: c_int, attributes: &T) -> Result<c_long, Errno> {
    // SAFETY: each caller passes the start of the bpf_attr of its command, of
    // the given size, and whatever it points to lives across the call.
    check(unsafe {
        libc::syscall(
            libc::SYS_bpf,
            command,
            ptr::from_ref(attributes),
            size_of::<T>(),
        )
    })
}

/// Loads a program that decides on access to devices.
pub fn load_device_program(program: &[Extended]) -> Result<OwnedFd, Errno> {
    #[repr(C)]
    struct Load {
        kind: u32,
        count: u32,
        instructions: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log: u64,
        kernel_version: u32,
        flags: u32,
        name: [u8; 16],
    }
    descriptor(bpf(
        BPF_PROG_LOAD,
        &Load {
            kind: BPF_PROG_TYPE_CGROUP_DEVICE,
            count: program.len() as u32,
            instructions: program.as_ptr() as u64,
            license: c"Apache-2.0".as_ptr() as u64,
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: 0,
            name: *b"wherry_devices\0\0",
        },
    )?)
}

#[repr(C)]
struct Attach {
    target: u32,
    program: u32,
    kind: u32,
    flags: u32,
}

/// Attaches a device program to a cgroup, beside existing ones.
pub fn attach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    bpf(
        BPF_PROG_ATTACH,
        &Attach {
            target: cgroup.as_raw_fd() as u32,
            program: program.as_raw_fd() as u32,
            kind: BPF_CGROUP_DEVICE,
            flags: BPF_F_ALLOW_MULTI,
        },
    )
    .map(drop)
}

/// Detaches the device program of this number from a cgroup.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, id: u32) -> Result<(), Errno> {
    #[repr(C)]
    struct Id {
        id: u32,
        next: u32,
        flags: u32,
    }
    let program = descriptor(bpf(
        BPF_PROG_GET_FD_BY_ID,
        &Id {
            id,
            next: 0,
            flags: 0,
        },
    )?)?;
    bpf(
        BPF_PROG_DETACH,
        &Attach {
            target: cgroup.as_raw_fd() as u32,
            program: program.as_raw_fd() as u32,
            kind: BPF_CGROUP_DEVICE,
            flags: 0,
        },
    )
    .map(drop)
}

/// The numbers of the device programs attached to a cgroup.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<u32>, Errno> {
    #[repr(C)]
    struct Query {
        target: u32,
        kind: u32,
        query_flags: u32,
        attach_flags: u32,
        ids: u64,
        count: u32,
        padding: u32,
    }
    // The kernel's own limit of programs per cgroup.
    let mut ids = [0_u32; 64];
    let query = std::cell::UnsafeCell::new(Query {
        target: cgroup.as_raw_fd() as u32,
        kind: BPF_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        ids: ids.as_mut_ptr() as u64,
        count: ids.len() as u32,
        padding: 0,
    });
    bpf(BPF_PROG_QUERY, &query)?;
    let count = query.into_inner().count as usize;
    Ok(ids.iter().take(count).copied().collect())
}
