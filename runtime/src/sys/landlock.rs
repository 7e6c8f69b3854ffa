//! landlock(7).

use std::ffi::{c_int, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::ptr;

use nix::errno::Errno;

use super::{check, descriptor};

/// `struct landlock_ruleset_attr`: what a ruleset denies unless a rule allows
/// it.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LandlockHandled {
    pub files: u64,
    pub network: u64,
    pub scopes: u64,
}

/// The version of Landlock that the kernel has. EOPNOTSUPP: it is switched off;
/// ENOSYS: there is none.
pub fn landlock_version() -> Result<u32, Errno> {
    const LANDLOCK_CREATE_RULESET_VERSION: c_uint = 1;
    // SAFETY: with this flag the pointer must be null and the size 0.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::null::<u8>(),
            0_usize,
            LANDLOCK_CREATE_RULESET_VERSION,
        )
    })
    .map(|version| version as u32)
}

/// An empty ruleset.
pub fn landlock_ruleset(handled: &LandlockHandled) -> Result<OwnedFd, Errno> {
    // An older kernel takes a longer structure whose end is zero.
    // SAFETY: pointer and size describe `handled`.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_landlock_create_ruleset,
            ptr::from_ref(handled),
            size_of::<LandlockHandled>(),
            0 as c_uint,
        )
    })
}

/// Allows `access` to what is at and below `place`.
pub fn landlock_allow_path(
    ruleset: BorrowedFd<'_>,
    place: BorrowedFd<'_>,
    access: u64,
) -> Result<(), Errno> {
    const LANDLOCK_RULE_PATH_BENEATH: c_int = 1;
    // `struct landlock_path_beneath_attr`, which is packed: 8 and 4 bytes.
    let mut rule = [0_u8; 12];
    rule[..8].copy_from_slice(&access.to_ne_bytes());
    rule[8..].copy_from_slice(&place.as_raw_fd().to_ne_bytes());
    // SAFETY: `rule` has the bytes of the structure for this kind of rule.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            LANDLOCK_RULE_PATH_BENEATH,
            rule.as_ptr(),
            0 as c_uint,
        )
    })
    .map(drop)
}

/// Allows `access` to a TCP port.
pub fn landlock_allow_port(ruleset: BorrowedFd<'_>, port: u16, access: u64) -> Result<(), Errno> {
    const LANDLOCK_RULE_NET_PORT: c_int = 2;
    // `struct landlock_net_port_attr`.
    let rule = [access, u64::from(port)];
    // SAFETY: `rule` has the layout of the structure for this kind of rule.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_add_rule,
            ruleset.as_raw_fd(),
            LANDLOCK_RULE_NET_PORT,
            rule.as_ptr(),
            0 as c_uint,
        )
    })
    .map(drop)
}

/// Enforces a ruleset on the calling thread. Needs no-new-privileges or CAP_SYS_ADMIN.
pub fn landlock_restrict(ruleset: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no pointer is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_landlock_restrict_self,
            ruleset.as_raw_fd(),
            0 as c_uint,
        )
    })
    .map(drop)
}
