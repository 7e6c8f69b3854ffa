//! The system calls that neither `std` nor `nix` offers as safe functions.
//!
//! All of this program's unsafe code is here.
#![allow(unsafe_code)]

use std::arch::asm;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::ptr;

use nix::errno::Errno;
use nix::unistd::ForkResult;
use serde::{Deserialize, Serialize};

/// Calls that a program may try with any integers as arguments: they return
/// facts as their result, or the kernel checks each address itself and only
/// reads from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Call {
    Chmod,
    Chroot,
    Clone,
    Getpgrp,
    Getpid,
    Getuid,
    Ioprio,
    Keyctl,
    Mkdir,
    Mount,
    Personality,
    Reboot,
    Sethostname,
    Setpriority,
    Socket,
    Sync,
    Umask,
    Unshare,
    /// A number that no table has.
    Unknown,
}

impl Call {
    fn number(self) -> i64 {
        match self {
            Call::Chmod => libc::SYS_chmod,
            Call::Chroot => libc::SYS_chroot,
            // With CLONE_VM refused below: without it, it is fork(2).
            Call::Clone => libc::SYS_clone,
            Call::Getpgrp => libc::SYS_getpgrp,
            Call::Getpid => libc::SYS_getpid,
            Call::Getuid => libc::SYS_getuid,
            Call::Ioprio => libc::SYS_ioprio_set,
            Call::Keyctl => libc::SYS_keyctl,
            Call::Mkdir => libc::SYS_mkdir,
            Call::Mount => libc::SYS_mount,
            Call::Personality => libc::SYS_personality,
            Call::Reboot => libc::SYS_reboot,
            Call::Sethostname => libc::SYS_sethostname,
            Call::Setpriority => libc::SYS_setpriority,
            Call::Socket => libc::SYS_socket,
            Call::Sync => libc::SYS_sync,
            Call::Umask => libc::SYS_umask,
            Call::Unshare => libc::SYS_unshare,
            Call::Unknown => 4095,
        }
    }
}

/// Does the call, with `number_bits` added to its number.
///
/// # Panics
/// Where the call would read a key into memory or share memory: such a trial
/// is a mistake of the clause's.
pub fn try_call(call: Call, number_bits: i64, arguments: [u64; 6]) -> Result<i64, i32> {
    assert!(
        call != Call::Clone || arguments[0] & libc::CLONE_VM as u64 == 0,
        "a trial of clone must not share memory"
    );
    assert!(
        call != Call::Keyctl || arguments[0] == 0,
        "only KEYCTL_GET_KEYRING_ID writes to no address"
    );
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: each call of `Call` only reads from the addresses that it is
    // given, and the kernel answers EFAULT where nothing can be read.
    let result = unsafe { libc::syscall(call.number() | number_bits, a, b, c, d, e, f) };
    if result == -1 {
        Err(Errno::last_raw())
    } else {
        Ok(result)
    }
}

/// getpgrp(2) by the entry of 32-bit programs.
pub fn getpgrp_i386() -> Result<i64, i32> {
    let result: i64;
    // SAFETY: the entry takes its number in eax, returns in rax and keeps all
    // other registers but r8 to r11. getpgrp (65 there) has no argument.
    unsafe {
        asm!(
            "int 0x80",
            inlateout("rax") 65_i64 => result,
            out("r8") _, out("r9") _, out("r10") _, out("r11") _,
        );
    }
    let result = i64::from(result as i32);
    if result < 0 {
        Err(-result as i32)
    } else {
        Ok(result)
    }
}

/// Forks. The process must have only one thread.
pub fn fork() -> nix::Result<ForkResult> {
    // SAFETY: every caller has one thread, so the child may do anything.
    unsafe { nix::unistd::fork() }
}

/// The process's effective, permitted and inheritable capabilities.
pub fn capabilities() -> io::Result<[u64; 3]> {
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 reads one header and writes two data structures.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let whole = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok([
        whole(data[0].effective, data[1].effective),
        whole(data[0].permitted, data[1].permitted),
        whole(data[0].inheritable, data[1].inheritable),
    ])
}

fn prctl(option: i32, argument: u64, second: u64) -> i32 {
    // SAFETY: the callers below pass options whose arguments are integers.
    unsafe { libc::prctl(option, argument, second, 0_u64, 0_u64) }
}

/// The bounding set, as a mask.
pub fn bounding() -> u64 {
    (0..64)
        .filter(|&bit| prctl(libc::PR_CAPBSET_READ, bit, 0) == 1)
        .fold(0, |mask, bit| mask | 1 << bit)
}

/// The ambient set, as a mask.
pub fn ambient() -> u64 {
    let is_set = libc::PR_CAP_AMBIENT_IS_SET as u64;
    (0..64)
        .filter(|&bit| prctl(libc::PR_CAP_AMBIENT, is_set, bit) == 1)
        .fold(0, |mask, bit| mask | 1 << bit)
}

/// Whether no new privileges can be had.
pub fn no_new_privileges() -> bool {
    prctl(libc::PR_GET_NO_NEW_PRIVS, 0, 0) == 1
}

/// Dies with the parent.
pub fn die_with_parent() {
    prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as u64, 0);
}

/// `struct sched_attr` of sched_setattr(2), its first version.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scheduling {
    size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
}

/// The process's scheduling.
pub fn scheduling() -> io::Result<Scheduling> {
    let mut attributes = Scheduling::default();
    let size = size_of::<Scheduling>() as u32;
    // SAFETY: the kernel writes at most `size` bytes to `attributes`.
    let result =
        unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &raw mut attributes, size, 0_u32) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(attributes)
}

/// The process's class and level of I/O priority.
pub fn io_priority() -> io::Result<(i64, i64)> {
    const WHO_PROCESS: i32 = 1;
    // SAFETY: all arguments are integers.
    let result = unsafe { libc::syscall(libc::SYS_ioprio_get, WHO_PROCESS, 0) };
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((result >> 13, result & 7))
}

/// The process's execution domain.
pub fn personality() -> i64 {
    // SAFETY: 0xffffffff asks and changes nothing.
    unsafe { libc::syscall(libc::SYS_personality, 0xffff_ffff_u64) }
}

/// The processors that the process may run on.
pub fn affinity() -> nix::Result<Vec<usize>> {
    let set = nix::sched::sched_getaffinity(nix::unistd::Pid::from_raw(0))?;
    Ok((0..nix::sched::CpuSet::count())
        .filter(|&cpu| set.is_set(cpu) == Ok(true))
        .collect())
}

/// The domain name of the UTS namespace.
pub fn domain_name() -> io::Result<String> {
    let mut name = [0_u8; 65];
    // SAFETY: at most `name.len()` bytes are written.
    let result = unsafe { libc::getdomainname(name.as_mut_ptr().cast(), name.len()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    let end = name
        .iter()
        .position(|&byte| byte == 0)
        .unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// A clock, in seconds.
pub fn clock(id: i32) -> io::Result<i64> {
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: one timespec is written.
    if unsafe { libc::clock_gettime(id, &mut time) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(time.tv_sec)
}

/// Rows and columns of a terminal.
pub fn window_size(terminal: BorrowedFd) -> io::Result<(u16, u16)> {
    let mut size = libc::winsize {
        ws_row: 0,
        ws_col: 0,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: TIOCGWINSZ writes one winsize.
    if unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((size.ws_row, size.ws_col))
}

/// A descriptor that recvmsg(2) has just made.
pub fn received(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the kernel made it for this process and nothing else owns it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Answers the next call that waits at a seccomp listener: with the error, or
/// without one by letting it continue. Returns its pid and number.
pub fn answer_notification(listener: BorrowedFd, error: Option<i32>) -> io::Result<(u32, i32)> {
    const CONTINUE: u32 = 1;
    const RECV: u64 = 0xc050_2100;
    const SEND: u64 = 0xc018_2101;
    // SAFETY: both structures are plain integers; zeros are valid.
    let mut request: libc::seccomp_notif = unsafe { std::mem::zeroed() };
    // SAFETY: RECV writes one seccomp_notif, whose size its number holds.
    if unsafe { libc::ioctl(listener.as_raw_fd(), RECV as _, &raw mut request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut response = libc::seccomp_notif_resp {
        id: request.id,
        val: 0,
        error: error.map_or(0, |number| -number),
        flags: if error.is_some() { 0 } else { CONTINUE },
    };
    // SAFETY: SEND reads one seccomp_notif_resp.
    if unsafe { libc::ioctl(listener.as_raw_fd(), SEND as _, &raw mut response) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((request.pid, request.data.nr))
}

/// Touches this many bytes of new memory and keeps them. Returns how many were
/// not available.
pub fn occupy(bytes: usize) -> io::Result<()> {
    // SAFETY: a new private mapping, written within its bounds only and never
    // given back.
    unsafe {
        let start = libc::mmap(
            ptr::null_mut(),
            bytes,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        for offset in (0..bytes).step_by(4096) {
            start.cast::<u8>().add(offset).write_volatile(1);
        }
    }
    Ok(())
}

/// Ends the calling thread alone, which may be the process's first one.
pub fn end_thread() -> ! {
    loop {
        // SAFETY: the thread does not come back, so nothing that it has is
        // used any more.
        unsafe {
            libc::syscall(libc::SYS_exit, 0);
        }
    }
}
