//! The system calls that neither `std` nor `nix` offers as safe functions.
//!
//! All of this crate's unsafe code is here and in the files below. A child made by [`spawn`] may call
//! every function of this file: none allocates, locks or panics.
#![allow(unsafe_code)]

mod bpf;
mod file;
mod landlock;
mod mount;
mod process;
mod scheduling;
mod socket;
mod terminal;

use std::ffi::{c_char, c_int, c_long, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicI32, Ordering};

use nix::errno::Errno;
use nix::unistd::Pid;

pub use bpf::*;
pub use file::*;
pub use landlock::*;
pub use mount::*;
pub use process::*;
pub use scheduling::*;
pub use socket::*;
pub use terminal::*;

pub const CLONE_NEWTIME: u64 = 0x80;
pub const CLONE_PARENT: u64 = libc::CLONE_PARENT as u64;
pub const CLONE_FILES: u64 = libc::CLONE_FILES as u64;
const CLONE_PIDFD: u64 = libc::CLONE_PIDFD as u64;
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

fn check(result: c_long) -> Result<c_long, Errno> {
    Errno::result(result)
}

fn descriptor(result: c_long) -> Result<OwnedFd, Errno> {
    let number = check(result)?;
    // SAFETY: the callers pass the result of a system call that makes a new
    // descriptor, which nothing else owns; descriptors fit in an int.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

/// Ends the process at once, without running the parent's clean-up code.
pub fn exit(status: c_int) -> ! {
    // SAFETY: _exit(2) takes no pointer and does not return.
    unsafe { libc::_exit(status) }
}

/// A child that unwinds must not return into the caller's code a second time.
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

/// Two numbers that a process shares with those cloned from it; zero at first.
#[derive(Debug)]
pub struct SharedCells(NonNull<[AtomicI32; 2]>);

// SAFETY: the memory is only used by atomic operations.
unsafe impl Send for SharedCells {}
// SAFETY: as above.
unsafe impl Sync for SharedCells {}

impl SharedCells {
    /// Maps a page for them.
    pub fn new() -> Result<SharedCells, Errno> {
        // SAFETY: a new anonymous mapping is asked for; it overlaps nothing.
        let address = unsafe {
            libc::mmap(
                ptr::null_mut(),
                size_of::<[AtomicI32; 2]>(),
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        match NonNull::new(address.cast()) {
            Some(cells) if address != libc::MAP_FAILED => Ok(SharedCells(cells)),
            _ => Err(Errno::last()),
        }
    }

    fn cells(&self) -> &[AtomicI32; 2] {
        // SAFETY: the mapping is aligned, zeroed, large enough, and lives as long as self.
        unsafe { self.0.as_ref() }
    }

    /// Reads one.
    pub fn get(&self, index: usize) -> i32 {
        self.cells()[index].load(Ordering::Acquire)
    }

    /// Writes one.
    pub fn set(&self, index: usize, value: i32) {
        self.cells()[index].store(value, Ordering::Release);
    }
}

impl Drop for SharedCells {
    fn drop(&mut self) {
        // SAFETY: the mapping was made by `new` with this size, and nothing refers to it.
        unsafe { libc::munmap(self.0.as_ptr().cast(), size_of::<[AtomicI32; 2]>()) };
    }
}

/// A pidfd of a child that has not been reaped yet.
pub fn pidfd_open(pid: Pid) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointer is passed.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) })
}

/// Kills the process that a pidfd refers to.
pub fn kill(pidfd: BorrowedFd<'_>) -> Result<(), Errno> {
    // SAFETY: no siginfo is passed.
    check(unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            libc::SIGKILL,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    })
    .map(drop)
}

/// accept4(2) on a listening socket, close-on-exec.
pub fn accept(socket: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: no address is asked for.
    descriptor(c_long::from(unsafe {
        libc::accept4(
            socket.as_raw_fd(),
            ptr::null_mut(),
            ptr::null_mut(),
            libc::SOCK_CLOEXEC,
        )
    }))
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

/// Closes the descriptors from `first` to `last`. As [`place`], only for a child.
pub fn close_range(first: RawFd, last: RawFd) -> Result<(), Errno> {
    // SAFETY: no pointer is passed; the child uses none of them afterwards.
    check(unsafe {
        libc::syscall(
            libc::SYS_close_range,
            first as c_uint,
            last as c_uint,
            0 as c_uint,
        )
    })
    .map(drop)
}

/// A descriptor that [`place`] has put at this number.
///
/// The child holds it until it exits, so it is borrowed forever.
pub fn placed(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: only called after `place_for_setup` for this number, in a child
    // that does not close it.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Gives every signal its default action and blocks none.
///
/// Not through the C library, which reserves two signals for itself.
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
