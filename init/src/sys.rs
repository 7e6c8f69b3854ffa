//! The system calls that have no safe wrapper. Each function states the
//! contract that makes its unsafe block sound.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicPtr, Ordering};

use nix::libc;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};
use nix::unistd::{ForkResult, Pid, fork};

/// Sends `signal` to the process that `pidfd` refers to, which no reuse of the
/// process id can make another one (pidfd_send_signal(2)).
pub fn signal_process(pidfd: BorrowedFd<'_>, signal: i32) -> io::Result<()> {
    // SAFETY: plain integers and a null siginfo, which the call allows.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// A child that runs `work` and exits with 0. For work that may block, which
/// PID 1 itself must not do.
pub fn fork_to(work: impl FnOnce()) -> nix::Result<Pid> {
    // SAFETY: PID 1 has one thread, so the child's copy of memory is whole: no
    // lock is held by a thread that is not there.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(child),
        ForkResult::Child => {
            work();
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Closes every descriptor of a child that is not in `kept`, which is sorted. Only
/// for a child of [`fork_to`] that uses none of them afterwards.
pub fn close_others(kept: &[RawFd]) {
    let mut first: libc::c_uint = 0;
    let close = |first: libc::c_uint, last: libc::c_uint| {
        if first <= last {
            // SAFETY: plain integers; the caller's child uses none of these.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
    };
    for descriptor in kept {
        let Ok(number) = libc::c_uint::try_from(*descriptor) else {
            continue;
        };
        if let Some(last) = number.checked_sub(1) {
            close(first, last);
        }
        first = number + 1;
    }
    close(first, libc::c_uint::MAX);
}

/// Takes ownership of a descriptor that an earlier run of this program left
/// open over execve(2).
///
/// # Errors
/// There is no such descriptor.
pub fn inherit(fd: RawFd) -> io::Result<OwnedFd> {
    // SAFETY: F_GETFD only reads a descriptor's flags.
    if fd < 0 || unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
        return Err(io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: it is open, and the snapshot that named it names each descriptor
    // once, so nobody else owns it.
    let owned = unsafe { OwnedFd::from_raw_fd(fd) };
    set_close_on_exec(&owned, true)?;
    Ok(owned)
}

/// Sets or clears a descriptor's close-on-exec flag.
pub fn set_close_on_exec(fd: &impl AsRawFd, close: bool) -> io::Result<()> {
    let flags = if close { libc::FD_CLOEXEC } else { 0 };
    // SAFETY: F_SETFD takes an integer and touches no memory.
    if unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_SETFD, flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

/// Brings the loopback interface up (netdevice(7)).
pub fn loopback_up(socket: &OwnedFd) -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *slot = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: the request is a whole ifreq with a terminated name.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as _, &request) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

nix::ioctl_readwrite!(
    /// `WDIOC_SETTIMEOUT` of linux/watchdog.h: seconds in, the seconds taken out.
    watchdog_set_timeout,
    b'W',
    6,
    libc::c_int
);

/// Asks the watchdog for `seconds` without a sign of life before it resets the
/// machine; returns what it took.
pub fn set_watchdog_timeout(device: &File, seconds: i32) -> io::Result<i32> {
    let mut seconds = seconds;
    // SAFETY: the driver reads and writes one int.
    unsafe { watchdog_set_timeout(device.as_raw_fd(), &mut seconds) }?;
    Ok(seconds)
}

nix::ioctl_read!(
    /// `WDIOC_GETBOOTSTATUS` of linux/watchdog.h: `WDIOF_…` bits.
    watchdog_get_boot_status,
    b'W',
    2,
    libc::c_int
);

/// Whether the watchdog has reset the machine before this boot.
pub fn has_watchdog_reset(device: &File) -> io::Result<bool> {
    /// `WDIOF_CARDRESET` of linux/watchdog.h.
    const CARD_RESET: libc::c_int = 0x20;
    let mut status = 0;
    // SAFETY: the driver writes one int.
    unsafe { watchdog_get_boot_status(device.as_raw_fd(), &mut status) }?;
    Ok(status & CARD_RESET != 0)
}

/// The number of bytes that hold a bit for each key (`KEY_MAX` 0x2ff of
/// linux/input-event-codes.h).
const KEY_BYTES: usize = 0x300 / 8;

nix::ioctl_read_buf!(
    /// `EVIOCGBIT(EV_KEY, …)` of linux/input.h: which keys a device has.
    input_keys,
    b'E',
    0x20 + 1,
    u8
);

/// Whether an input device has the key of that code.
pub fn has_key(device: &File, code: u16) -> bool {
    let mut keys = [0u8; KEY_BYTES];
    // SAFETY: the driver writes at most the buffer's length.
    let read = unsafe { input_keys(device.as_raw_fd(), &mut keys) };
    read.is_ok()
        && keys
            .get(usize::from(code / 8))
            .is_some_and(|byte| byte & (1 << (code % 8)) != 0)
}

/// The descriptor of the watchdog for the crash handler, or -1.
static WATCHDOG: AtomicI32 = AtomicI32::new(-1);
/// Whether a crash is being handled: a second one reboots at once.
static CRASHED: AtomicBool = AtomicBool::new(false);

/// Tells the crash handler which descriptor keeps the watchdog quiet.
pub fn remember_watchdog(fd: RawFd) {
    WATCHDOG.store(fd, Ordering::Relaxed);
}

/// The signals by which the kernel says that the program itself is broken.
const CRASHES: [Signal; 6] = [
    Signal::SIGSEGV,
    Signal::SIGBUS,
    Signal::SIGILL,
    Signal::SIGFPE,
    Signal::SIGABRT,
    Signal::SIGSYS,
];

/// A page that reads 1 in PID 1 and 0 in every child, however it was cloned.
static OURSELVES: AtomicPtr<u8> = AtomicPtr::new(std::ptr::null_mut());

/// Marks this process, and none of its children, as the one whose crash is the
/// machine's (madvise(2), `MADV_WIPEONFORK`). A process id would not do: the
/// first process of a container has number 1 too.
fn mark_ourselves() -> io::Result<()> {
    const PAGE: usize = 4096;
    // SAFETY: a new private mapping that overlaps nothing, checked for failure
    // and never unmapped.
    let page = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        )
    };
    if page == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping above, whole.
    if unsafe { libc::madvise(page, PAGE, libc::MADV_WIPEONFORK) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping is writable and nobody else refers to it yet.
    unsafe { page.cast::<u8>().write_volatile(1) };
    OURSELVES.store(page.cast(), Ordering::Relaxed);
    Ok(())
}

fn is_ourselves() -> bool {
    let page = OURSELVES.load(Ordering::Relaxed);
    // SAFETY: null, or the page that mark_ourselves made and that stays.
    page.is_null() || unsafe { page.read_volatile() } == 1
}

/// Makes every crash of this process execute the program again, as
/// `init --emergency REASON WATCHDOG`, with all its descriptors: so the
/// services keep their pipes. An alternate stack lets it work after a stack
/// overflow too (Rust installs one for the main thread).
pub fn catch_crashes() -> io::Result<()> {
    mark_ourselves()?;
    let action = SigAction::new(
        SigHandler::Handler(on_crash),
        SaFlags::SA_ONSTACK | SaFlags::SA_NODEFER,
        SigSet::empty(),
    );
    for signal in CRASHES {
        // SAFETY: the handler calls only functions that signal-safety(7) lists
        // and touches only atomics.
        unsafe { sigaction(signal, &action) }?;
    }
    Ok(())
}

extern "C" fn on_crash(signal: libc::c_int) {
    let reason = match signal {
        libc::SIGSEGV => c"SIGSEGV",
        libc::SIGBUS => c"SIGBUS",
        libc::SIGILL => c"SIGILL",
        libc::SIGFPE => c"SIGFPE",
        libc::SIGABRT => c"SIGABRT",
        _ => c"a fatal signal",
    };
    execute_emergency(reason);
}

/// Executes this program as `init --emergency REASON WATCHDOG` and keeps every
/// descriptor open. Where that fails, or already happens within a crash, the
/// machine is restarted. Async-signal-safe.
pub fn execute_emergency(reason: &std::ffi::CStr) -> ! {
    if !is_ourselves() {
        // SAFETY: a child that fails ends by itself; PID 1 reaps it.
        unsafe { libc::_exit(127) };
    }
    if !CRASHED.swap(true, Ordering::Relaxed) {
        let watchdog = WATCHDOG.load(Ordering::Relaxed);
        for fd in 3..4096 {
            // SAFETY: F_SETFD on a number that may not be open only fails.
            unsafe { libc::fcntl(fd, libc::F_SETFD, 0) };
        }
        let mut digits = [0u8; 12];
        write_number(watchdog, &mut digits);
        let arguments = [
            c"/usr/bin/init".as_ptr(),
            c"--emergency".as_ptr(),
            reason.as_ptr(),
            digits.as_ptr().cast(),
            std::ptr::null(),
        ];
        let environment = [std::ptr::null()];
        // SAFETY: execve and sigprocmask are async-signal-safe; both arrays end
        // with null and point to terminated strings that live until the call.
        unsafe {
            let mut none: libc::sigset_t = std::mem::zeroed();
            libc::sigemptyset(&mut none);
            libc::sigprocmask(libc::SIG_SETMASK, &none, std::ptr::null_mut());
            libc::execve(
                c"/proc/self/exe".as_ptr(),
                arguments.as_ptr(),
                environment.as_ptr(),
            );
        }
    }
    reboot_at_once()
}

/// Writes `number` in decimal, terminated by a zero byte.
fn write_number(number: i32, out: &mut [u8; 12]) {
    if number < 0 {
        out[..3].copy_from_slice(b"-1\0");
        return;
    }
    let mut value = number;
    let mut length = 1;
    while value >= 10 {
        value /= 10;
        length += 1;
    }
    value = number;
    for index in (0..length).rev() {
        out[index] = b'0' + (value % 10) as u8;
        value /= 10;
    }
    out[length] = 0;
}

/// Restarts the machine without another word. Async-signal-safe.
pub fn reboot_at_once() -> ! {
    // SAFETY: reboot(2) takes integers; _exit ends the process, and for PID 1
    // that is a panic, which restarts the machine too (panic=-1).
    unsafe {
        libc::reboot(libc::RB_AUTOBOOT);
        libc::_exit(1)
    }
}

/// Replaces this program by `path` with `arguments`. Returns only on failure.
pub fn execute(path: &std::ffi::CStr, arguments: &[CString]) -> io::Error {
    let mut pointers: Vec<*const libc::c_char> =
        arguments.iter().map(|argument| argument.as_ptr()).collect();
    pointers.push(std::ptr::null());
    let environment = [std::ptr::null()];
    // SAFETY: both arrays end with null and point to terminated strings that
    // live until the call; on success nothing of this program is left.
    unsafe { libc::execve(path.as_ptr(), pointers.as_ptr(), environment.as_ptr()) };
    io::Error::last_os_error()
}

/// Takes this program's code out of its memory: what booting needed is needed no
/// more, and what the loop needs is mapped again from the page cache at its next
/// use.
pub fn release_code() -> io::Result<()> {
    let maps = std::fs::read_to_string("/proc/self/maps")?;
    let program = std::fs::read_link("/proc/self/exe")?;
    let Some((start, end)) = code(&maps, &program.to_string_lossy()) else {
        return Ok(());
    };
    // SAFETY: the range is a private mapping of this program's file that is not
    // writable, so all its pages are as in the file, from which the kernel
    // brings them back when they are touched (madvise(2), MADV_DONTNEED).
    let result =
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    if result == 0 {
        Ok(())
    } else {
        Err(io::Error::last_os_error())
    }
}

/// Where `/proc/self/maps` says that the code of `program` lies.
fn code(maps: &str, program: &str) -> Option<(usize, usize)> {
    let mut lines = maps.lines().filter(|line| line.ends_with(program));
    let line = lines.find(|line| line.split(' ').nth(1) == Some("r-xp"))?;
    let (start, end) = line.split(' ').next()?.split_once('-')?;
    Some((
        usize::from_str_radix(start, 16).ok()?,
        usize::from_str_radix(end, 16).ok()?,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
7f2f00000000-7f2f00020000 r--p 00000000 fd:00 36    /usr/bin/init
7f2f00020000-7f2f001e1000 r-xp 00020000 fd:00 36    /usr/bin/init
7f2f001e1000-7f2f00244000 r--p 001e1000 fd:00 36    /usr/bin/init
7f2f00251000-7f2f00272000 rw-p 00000000 00:00 0     [heap]
7ffd00000000-7ffd00002000 r-xp 00000000 00:00 0     [vdso]
";

    #[test]
    fn only_the_programs_code_is_its_code() {
        let range = (0x7f2f_0002_0000, 0x7f2f_001e_1000);
        assert_eq!(code(MAPS, "/usr/bin/init"), Some(range));
        assert_eq!(code(MAPS, "/usr/bin/other"), None);
    }

    #[test]
    fn code_that_was_released_still_runs() {
        release_code().unwrap();
        assert!(std::fs::read_to_string("/proc/self/maps").is_ok());
    }

    #[test]
    fn a_number_is_written_in_decimal() {
        for number in [-1, 0, 7, 10, 4095, i32::MAX] {
            let mut out = [0xff; 12];
            write_number(number, &mut out);
            let text = std::ffi::CStr::from_bytes_until_nul(&out).unwrap();
            assert_eq!(text.to_str().unwrap(), number.to_string());
        }
    }
}
