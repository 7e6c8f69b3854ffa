//! What a process is and may do: limits, user, capabilities, seccomp, its program.

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint};
use std::os::fd::OwnedFd;
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

use super::{check, descriptor};

/// `struct sock_filter`: one instruction of classic BPF.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

/// Sets a resource limit of the caller.
pub fn set_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 {
        rlim_cur: soft,
        rlim_max: hard,
    };
    // SAFETY: `limit` is an rlimit64; no old limit is asked for.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            ptr::from_ref(&limit),
            ptr::null_mut::<libc::rlimit64>(),
        )
    })
    .map(drop)
}

/// Raises a hard limit of the caller to at least this.
pub fn raise_hard_limit(resource: u32, hard: u64) -> Result<(), Errno> {
    let mut limit = libc::rlimit64 {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: no new limit is given; the old one is written to `limit`.
    check(unsafe {
        libc::syscall(
            libc::SYS_prlimit64,
            0,
            resource,
            ptr::null::<libc::rlimit64>(),
            ptr::from_mut(&mut limit),
        )
    })?;
    if limit.rlim_max >= hard {
        return Ok(());
    }
    set_limit(resource, limit.rlim_cur, hard)
}

/// Whether the working directory is below the caller's root, and not removed.
pub fn directory_is_inside() -> Result<(), Errno> {
    let mut path = [0_u8; libc::PATH_MAX as usize];
    // Not by the C library, which goes and looks elsewhere.
    // SAFETY: pointer and length describe `path`.
    let found = check(unsafe { libc::syscall(libc::SYS_getcwd, path.as_mut_ptr(), path.len()) });
    match found {
        // Outside it begins with "(unreachable)".
        Ok(_) if path[0] != b'/' => Err(Errno::EXDEV),
        // Inside, and too long for a name.
        Ok(_) | Err(Errno::ERANGE | Errno::ENAMETOOLONG) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Sets groups and user of the calling thread, the only one of a child.
///
/// Not through the C library: its wrappers signal threads that the child does
/// not have.
pub fn set_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: length and pointer describe `groups`.
    match check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) }) {
        // A namespace whose groups were mapped by an ordinary user has no setgroups.
        Err(Errno::EPERM) if groups.is_empty() => {}
        result => drop(result?),
    }
    // SAFETY: no pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

/// Becomes the root of the caller's user namespace, with no supplementary
/// groups.
pub fn become_root(uid: u32, gid: u32) -> Result<(), Errno> {
    // SAFETY: no pointer is passed.
    match check(unsafe { libc::syscall(libc::SYS_setgroups, 0, ptr::null::<u32>()) }) {
        // A namespace whose groups were mapped without privileges has no setgroups.
        Ok(_) | Err(Errno::EPERM) => {}
        Err(errno) => return Err(errno),
    }
    // SAFETY: no pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_setresgid, gid, gid, gid) })?;
    // SAFETY: no pointer is passed.
    check(unsafe { libc::syscall(libc::SYS_setresuid, uid, uid, uid) }).map(drop)
}

fn prctl(option: c_int, first: u64, second: u64) -> Result<(), Errno> {
    // SAFETY: none of the options used in this file takes a pointer.
    check(c_long::from(unsafe {
        libc::prctl(option, first, second, 0, 0)
    }))
    .map(drop)
}

/// Drops a capability from the bounding set. EINVAL: the kernel has no such capability.
pub fn drop_bounding(capability: u32) -> Result<(), Errno> {
    prctl(libc::PR_CAPBSET_DROP, u64::from(capability), 0)
}

/// Whether a capability is in the caller's bounding set; false for one that the
/// kernel does not know.
pub fn in_bounding_set(capability: u32) -> bool {
    // SAFETY: no pointer is passed.
    unsafe { libc::prctl(libc::PR_CAPBSET_READ, u64::from(capability), 0, 0, 0) == 1 }
}

/// The permitted capabilities of the calling thread.
pub fn permitted_capabilities() -> Result<u64, Errno> {
    // Header and data as in `set_capabilities`: version, pid; three words in two halves.
    let header = [0x2008_0522_u32, 0];
    let mut halves = [[0_u32; 3]; 2];
    // SAFETY: both have the layout of this version; the data are written to.
    check(unsafe { libc::syscall(libc::SYS_capget, header.as_ptr(), halves.as_mut_ptr()) })?;
    Ok(u64::from(halves[0][1]) | u64::from(halves[1][1]) << 32)
}

/// Raises an ambient capability.
pub fn raise_ambient(capability: u32) -> Result<(), Errno> {
    prctl(
        libc::PR_CAP_AMBIENT,
        libc::PR_CAP_AMBIENT_RAISE as u64,
        u64::from(capability),
    )
}

/// Lets the permitted capabilities survive the next change of the user.
pub fn keep_capabilities() -> Result<(), Errno> {
    prctl(libc::PR_SET_KEEPCAPS, 1, 0)
}

/// From here on execution grants no privileges.
pub fn no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// Keeps other processes from this one's memory, descriptors and `/proc/…/exe`.
pub fn undumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0)
}

/// Starts a session keyring of the caller's own, without the keys of the
/// previous one.
pub fn new_session_keyring() -> Result<(), Errno> {
    const KEYCTL_JOIN_SESSION_KEYRING: c_int = 1;
    // SAFETY: the name is null, which asks for a new keyring without one.
    let joined = check(unsafe {
        libc::syscall(
            libc::SYS_keyctl,
            KEYCTL_JOIN_SESSION_KEYRING,
            ptr::null::<c_char>(),
        )
    });
    match joined {
        // A kernel without keys; or a user whose keys are used up, who would
        // otherwise keep every container of that user from starting.
        Ok(_) | Err(Errno::ENOSYS | Errno::EDQUOT) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// capset(2) for the calling thread.
pub fn set_capabilities(effective: u64, permitted: u64, inheritable: u64) -> Result<(), Errno> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: c_int,
    }
    #[repr(C)]
    struct Half {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    let header = Header {
        version: 0x2008_0522, // _LINUX_CAPABILITY_VERSION_3: two halves
        pid: 0,
    };
    let halves = [0, 32].map(|shift| Half {
        effective: (effective >> shift) as u32,
        permitted: (permitted >> shift) as u32,
        inheritable: (inheritable >> shift) as u32,
    });
    // SAFETY: header and data have the layout of this version and live across the call.
    check(unsafe { libc::syscall(libc::SYS_capset, ptr::from_ref(&header), halves.as_ptr()) })
        .map(drop)
}

/// seccomp(2): loads a filter for the calling thread; returns its listener if
/// the flags ask for one.
pub fn load_seccomp(program: &[Instruction], flags: u64) -> Result<Option<OwnedFd>, Errno> {
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const Instruction,
    }
    let program = Program {
        // The compiler refuses a program of more than 4096 instructions.
        length: program.len() as u16,
        instructions: program.as_ptr(),
    };
    // SAFETY: `program` is a sock_fprog whose pointer and length describe a
    // slice that lives across the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags as c_uint,
            ptr::from_ref(&program),
        )
    };
    if flags & libc::SECCOMP_FILTER_FLAG_NEW_LISTENER != 0 {
        return descriptor(result).map(Some);
    }
    check(result).map(|_| None)
}

/// Strings as execve(2) takes them.
pub struct Strings<'a> {
    /// Ends with a null pointer, with spare places for two strings before it.
    pointers: Vec<*const c_char>,
    /// Empty, or `LISTEN_PID=…` with its NUL.
    listen_pid: [u8; 24],
    /// Empty, or a further string with its NUL.
    last: [u8; 1056],
    _strings: std::marker::PhantomData<&'a CStr>,
}

impl<'a> Strings<'a> {
    pub fn new(strings: &'a [CString]) -> Strings<'a> {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.extend([ptr::null(); 3]);
        Strings {
            pointers,
            listen_pid: [0; 24],
            last: [0; 1056],
            _strings: std::marker::PhantomData,
        }
    }

    /// Adds `LISTEN_PID`, which only the process itself knows. Does not allocate.
    pub fn set_listen_pid(&mut self, pid: Pid) {
        let mut digits = [0_u8; 10];
        let mut rest = pid.as_raw().unsigned_abs();
        let mut first = digits.len();
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                break;
            }
        }
        let name = b"LISTEN_PID=";
        let digits = &digits[first..];
        self.listen_pid[..name.len()].copy_from_slice(name);
        self.listen_pid[name.len()..name.len() + digits.len()].copy_from_slice(digits);
    }

    /// Adds a string of at most 1055 bytes; longer ones are cut. Does not
    /// allocate.
    pub fn set_last(&mut self, string: &[u8]) {
        let length = string.len().min(self.last.len() - 1);
        self.last[..length].copy_from_slice(&string[..length]);
    }

    /// The array, valid as long as `self` is borrowed.
    fn complete(&mut self) -> *const *const c_char {
        let mut place = self.pointers.len() - 3;
        for string in [self.listen_pid.as_slice(), &self.last] {
            if string[0] != 0 {
                self.pointers[place] = string.as_ptr().cast();
                place += 1;
            }
        }
        self.pointers.as_ptr()
    }
}

/// execve(2); returns only when it fails.
pub fn execute(
    program: &CStr,
    arguments: &mut Strings<'_>,
    environment: &mut Strings<'_>,
) -> Errno {
    // SAFETY: `program` is NUL-terminated; both arrays end with null and point
    // to strings that `Strings` borrows or holds.
    unsafe {
        libc::execve(
            program.as_ptr(),
            arguments.complete(),
            environment.complete(),
        );
    }
    Errno::last()
}
