//! The system calls that neither `std` nor `nix` offers as safe functions.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString, c_char, c_int, c_long, c_uint};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::libc;
use nix::pty::Winsize;

const OPEN_TREE_CLONE: c_uint = 1;
const MOUNT_ATTR_RDONLY: u64 = 1;

/// A descriptor from a system call that makes one.
fn descriptor(result: c_long) -> Result<OwnedFd, Errno> {
    let number = Errno::result(result)?;
    // SAFETY: the callers pass the result of a system call that makes a new
    // descriptor, which nothing else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(number as RawFd) })
}

/// open_tree(2): a detached copy of the mount at `path`, close-on-exec.
pub fn clone_mount(path: &CStr) -> Result<OwnedFd, Errno> {
    // SAFETY: `path` is a NUL-terminated string.
    descriptor(unsafe {
        libc::syscall(
            libc::SYS_open_tree,
            libc::AT_FDCWD,
            path.as_ptr(),
            OPEN_TREE_CLONE | libc::O_CLOEXEC as c_uint,
        )
    })
}

/// mount_setattr(2): makes the mount read-only.
pub fn make_read_only(mount: BorrowedFd<'_>) -> Result<(), Errno> {
    // `struct mount_attr`: set, clear, propagation, userns_fd.
    let attributes = [MOUNT_ATTR_RDONLY, 0, 0, 0_u64];
    // SAFETY: the path is NUL-terminated and `attributes` has the size and
    // layout of a mount_attr.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    Errno::result(result).map(drop)
}

/// Executes the program that `fd` refers to, with this process's environment.
/// Returns only if that failed.
pub fn execute(fd: BorrowedFd<'_>, arguments: &[CString]) -> Errno {
    unsafe extern "C" {
        static environ: *const *const c_char;
    }
    let pointers: Vec<*const c_char> = arguments
        .iter()
        .map(|argument| argument.as_ptr())
        .chain([ptr::null()])
        .collect();
    // SAFETY: the path is NUL-terminated; `pointers` ends with null and its
    // strings live across the call; `environ` is the C library's own list, which
    // this single-threaded program does not change meanwhile.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            fd.as_raw_fd(),
            c"".as_ptr(),
            pointers.as_ptr(),
            environ,
            libc::AT_EMPTY_PATH,
        );
    }
    Errno::last()
}

/// Gives SIGCHLD its default action.
pub fn default_child_signal() {
    // SAFETY: SIG_DFL is an action of every signal; no function is installed.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// TIOCGPTPEER: opens the other end of a terminal by its master, also that of
/// another mount namespace.
pub fn open_other_end(master: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    // SAFETY: TIOCGPTPEER takes flags of open(2), no pointer, and returns a new
    // descriptor.
    descriptor(c_long::from(unsafe {
        libc::ioctl(
            master.as_raw_fd(),
            libc::TIOCGPTPEER,
            libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC,
        )
    }))
}

/// The name of this process in lists of processes.
pub fn set_name(name: &CStr) {
    // SAFETY: `name` is a NUL-terminated string; the kernel copies 16 bytes at most.
    unsafe {
        libc::prctl(libc::PR_SET_NAME, name.as_ptr());
    }
}

/// pidfd_open(2).
pub fn pidfd_open(pid: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: no pointer is passed.
    descriptor(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })
}

/// pidfd_send_signal(2). Signal 0 only checks whether the process exists.
pub fn send_signal(process: BorrowedFd<'_>, signal: c_int) -> Result<(), Errno> {
    // SAFETY: no signal information is passed, which the kernel takes as kill's.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            process.as_raw_fd(),
            signal,
            ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    Errno::result(result).map(drop)
}

/// The size of a terminal.
pub fn window_size(terminal: BorrowedFd<'_>) -> Result<Winsize, Errno> {
    let mut size = Winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes a winsize, which `size` is.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &mut size) };
    Errno::result(result).map(|_| size)
}

/// Sets the size of a terminal.
pub fn set_window_size(terminal: BorrowedFd<'_>, size: &Winsize) -> Result<(), Errno> {
    // SAFETY: TIOCSWINSZ reads a winsize, which `size` is.
    let result =
        unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, ptr::from_ref(size)) };
    Errno::result(result).map(drop)
}

/// Whether this program's caller has left this descriptor open for it:
/// everything that this program opens itself is close-on-exec.
pub fn is_inherited(number: RawFd) -> bool {
    // SAFETY: no pointer is passed.
    let flags = unsafe { libc::fcntl(number, libc::F_GETFD) };
    flags != -1 && flags & libc::FD_CLOEXEC == 0
}

/// A descriptor that this program's caller has left open for it.
pub fn inherited(number: RawFd) -> BorrowedFd<'static> {
    // SAFETY: called only for numbers that `is_inherited` has found; this
    // program never closes what it did not open.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// A descriptor that came with a message (SCM_RIGHTS).
pub fn received(number: RawFd) -> OwnedFd {
    // SAFETY: called once for each number in a control message, which the
    // kernel has made for this program just now and nothing else owns.
    unsafe { OwnedFd::from_raw_fd(number) }
}
