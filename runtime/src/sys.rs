//! The system calls that neither `std` nor `nix` offers as safe functions.
//!
//! All of this crate's unsafe code is here. A child made by [`spawn`] may call
//! every function of this file: none allocates, locks or panics.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::Pid;

pub const CLONE_NEWTIME: u64 = 0x80;
pub const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;
const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

pub const MOUNT_ATTR_RDONLY: u64 = 0x1;
pub const MOUNT_ATTR_NOSUID: u64 = 0x2;
pub const MOUNT_ATTR_NODEV: u64 = 0x4;
pub const MOUNT_ATTR_NOEXEC: u64 = 0x8;
pub const MOUNT_ATTR_ATIME: u64 = 0x70;
pub const MOUNT_ATTR_NOATIME: u64 = 0x10;
pub const MOUNT_ATTR_STRICTATIME: u64 = 0x20;
pub const MOUNT_ATTR_NODIRATIME: u64 = 0x80;
pub const MOUNT_ATTR_NOSYMFOLLOW: u64 = 0x20_0000;

const OPEN_TREE_CLONE: c_uint = 1;
const OPEN_TREE_CLOEXEC: c_uint = libc::O_CLOEXEC as c_uint;
const FSOPEN_CLOEXEC: c_uint = 1;
const FSMOUNT_CLOEXEC: c_uint = 1;
const FSCONFIG_SET_FLAG: c_uint = 0;
const FSCONFIG_SET_STRING: c_uint = 1;
const FSCONFIG_CMD_CREATE: c_uint = 6;
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

/// `struct sock_filter`: one instruction of classic BPF.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

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

fn check(result: c_long) -> Result<c_long, Errno> {
    Errno::result(result)
}

fn descriptor(result: c_long) -> Result<OwnedFd, Errno> {
    let number = check(result)?;
    // SAFETY: the callers pass the result of a system call that makes a new
    // descriptor, which nothing else owns; descriptors fit in an int.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

/// Ends the process at once, without any clean-up of the parent's copy.
pub fn exit(status: c_int) -> ! {
    // SAFETY: _exit(2) takes no pointer and does not return.
    unsafe { libc::_exit(status) }
}

/// A child that unwinds must not come back into the caller's code a second time.
struct NeverReturns;

impl Drop for NeverReturns {
    fn drop(&mut self) {
        exit(127);
    }
}

/// clone3(2) with fork's semantics: `child` runs on a copy of the memory and
/// its result is the exit status.
///
/// The caller may have threads, of which the child has none: `child` must not
/// allocate, and must not take a lock that another thread may hold. Everything
/// in this crate that runs there keeps to that.
pub fn spawn(
    flags: u64,
    cgroup: Option<BorrowedFd<'_>>,
    child: impl FnOnce() -> c_int,
) -> Result<(Pid, OwnedFd), Errno> {
    let mut pidfd: c_int = -1;
    let mut arguments = libc::clone_args {
        flags: flags | CLONE_PIDFD,
        pidfd: ptr::from_mut(&mut pidfd) as u64,
        child_tid: 0,
        parent_tid: 0,
        // With CLONE_PARENT the child has the exit signal of its creator.
        exit_signal: if flags & CLONE_PARENT == 0 {
            libc::SIGCHLD as u64
        } else {
            0
        },
        stack: 0,
        stack_size: 0,
        tls: 0,
        set_tid: 0,
        set_tid_size: 0,
        cgroup: 0,
    };
    if let Some(cgroup) = cgroup {
        arguments.flags |= CLONE_INTO_CGROUP;
        arguments.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: `arguments` is a clone_args of the given size and lives across
    // the call, as does `pidfd`. There is no CLONE_VM and no stack, so the
    // child goes on here with its own copy of this stack; it leaves only by
    // exit() or execve(), even when it unwinds.
    let pid = check(unsafe {
        libc::syscall(
            libc::SYS_clone3,
            ptr::from_mut(&mut arguments),
            size_of::<libc::clone_args>(),
        )
    })?;
    if pid == 0 {
        let _guard = NeverReturns;
        exit(child());
    }
    Ok((Pid::from_raw(pid as i32), descriptor(c_long::from(pidfd))?))
}

/// A pidfd of a child that was not reaped yet.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointer is passed.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Makes `number` refer to what `fd` refers to, for the program too.
///
/// Only for a child, which drops none of the descriptors that it has inherited.
pub fn place(fd: RawFd, number: RawFd) -> Result<(), Errno> {
    // SAFETY: no pointer is passed. Whatever `number` was is never used again
    // in the child: it leaves by exit() or execve().
    check(c_long::from(unsafe { libc::dup2(fd, number) })).map(drop)
}

/// Makes `number`, close-on-exec, refer to what `fd` refers to. As [`place`].
pub fn place_for_setup(fd: RawFd, number: RawFd) -> Result<(), Errno> {
    // SAFETY: as in `place`.
    check(c_long::from(unsafe {
        libc::dup3(fd, number, libc::O_CLOEXEC)
    }))
    .map(drop)
}

/// A close-on-exec duplicate with a number of at least `least`.
pub fn duplicate_above(fd: RawFd, least: RawFd) -> Result<RawFd, Errno> {
    // SAFETY: no pointer is passed.
    check(c_long::from(unsafe {
        libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, least)
    }))
    .map(|number| number as RawFd)
}

/// Closes every descriptor from `first` on. As [`place`], only for a child.
pub fn close_from(first: RawFd) -> Result<(), Errno> {
    // SAFETY: no pointer is passed; the child uses none of them afterwards.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as c_uint,
            c_uint::MAX,
            0 as c_uint,
        )
    })
    .map(drop)
}

/// A descriptor that [`place`] has put at this number.
///
/// The child holds it until it leaves, so it is borrowed for ever.
pub fn placed(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: only called after `place_for_setup` for this number, in a child
    // that does not close it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Gives every signal its default action and blocks none.
///
/// Not by the C library, which keeps two signals to itself.
pub fn reset_signals() {
    // `struct sigaction` of the kernel, all zero: SIG_DFL, no flags, no mask.
    let default = [0_u64; 4];
    let empty = 0_u64;
    for signal in 1..=64 {
        // SAFETY: `default` has the size and layout of the kernel's sigaction
        // with a mask of 8 bytes. The kernel refuses the signals that cannot be
        // set, which is well.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                ptr::null_mut::<u64>(),
                size_of_val(&empty),
            );
        }
    }
    // SAFETY: `empty` is a mask of the given size.
    unsafe {
        libc::syscall(
            libc::SYS_rt_sigprocmask,
            libc::SIG_SETMASK,
            ptr::from_ref(&empty),
            ptr::null_mut::<u64>(),
            size_of_val(&empty),
        );
    }
}

/// fsopen(2).
pub fn fsopen(kind: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: `kind` is a NUL-terminated string.
    descriptor(unsafe { libc::syscall(libc::SYS_fsopen, kind.as_ptr(), FSOPEN_CLOEXEC) })
}

fn fsconfig(
    context: BorrowedFd<'_>,
    command: c_uint,
    key: *const c_char,
    value: *const c_char,
) -> Result<(), Errno> {
    // SAFETY: the three callers pass NUL-terminated strings, or null where the
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

/// Makes the configured file system.
pub fn fsconfig_create(context: BorrowedFd<'_>) -> Result<(), Errno> {
    fsconfig(context, FSCONFIG_CMD_CREATE, ptr::null(), ptr::null())
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

/// setdomainname(2).
pub fn setdomainname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `name`.
    check(c_long::from(unsafe {
        libc::setdomainname(name.as_ptr().cast(), name.len())
    }))
    .map(drop)
}

/// sethostname(2).
pub fn sethostname(name: &[u8]) -> Result<(), Errno> {
    // SAFETY: pointer and length describe `name`.
    check(c_long::from(unsafe {
        libc::sethostname(name.as_ptr().cast(), name.len())
    }))
    .map(drop)
}

/// Brings up the interface `lo` of the caller's network namespace.
pub fn bring_up_loopback() -> Result<(), Errno> {
    // SAFETY: no pointer is passed.
    let socket = descriptor(c_long::from(unsafe {
        libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0)
    }))?;
    // SAFETY: an ifreq is plain data, for which all zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as c_char;
    request.ifr_name[1] = b'o' as c_char;
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as i16;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives across the call.
    check(c_long::from(unsafe {
        libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request)
    }))
    .map(drop)
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

/// Sets groups and user of the calling thread, the only one of a child.
///
/// Not by the C library: its wrappers tell threads that the child does not have.
pub fn set_user(uid: u32, gid: u32, groups: &[u32]) -> Result<(), Errno> {
    // SAFETY: length and pointer describe `groups`.
    check(unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) })?;
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

/// Execution grants no privileges from here on.
pub fn no_new_privileges() -> Result<(), Errno> {
    prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0)
}

/// Keeps other processes from this one's memory, descriptors and `/proc/…/exe`.
pub fn undumpable() -> Result<(), Errno> {
    prctl(libc::PR_SET_DUMPABLE, 0, 0)
}

/// Begins a session keyring of the caller's own, with no key of the one before.
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
        // A kernel without keys.
        Ok(_) | Err(Errno::ENOSYS) => Ok(()),
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

/// seccomp(2): loads a filter for the calling thread.
pub fn load_seccomp(program: &[Instruction], flags: u64) -> Result<(), Errno> {
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
    check(unsafe {
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            flags as c_uint,
            ptr::from_ref(&program),
        )
    })
    .map(drop)
}

/// Strings as execve(2) takes them.
pub struct Strings<'a> {
    /// Ends with a null pointer, and has a further place for one string before it.
    pointers: Vec<*const c_char>,
    /// Empty, or `LISTEN_PID=…` with its NUL.
    listen_pid: [u8; 24],
    _strings: std::marker::PhantomData<&'a CStr>,
}

impl<'a> Strings<'a> {
    pub fn new(strings: &'a [CString]) -> Strings<'a> {
        let mut pointers: Vec<_> = strings.iter().map(|string| string.as_ptr()).collect();
        pointers.extend([ptr::null(), ptr::null()]);
        Strings {
            pointers,
            listen_pid: [0; 24],
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

    /// The array, which stays valid as long as `self` is borrowed.
    fn complete(&mut self) -> *const *const c_char {
        if self.listen_pid[0] != 0 {
            let place = self.pointers.len() - 2;
            self.pointers[place] = self.listen_pid.as_ptr().cast();
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

/// Loads a program that decides on the access to devices.
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

/// Attaches a device program to a cgroup, beside those that are there.
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
