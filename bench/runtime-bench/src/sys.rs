//! The one system call that no safe interface offers.
#![allow(unsafe_code)]

use nix::errno::Errno;
use nix::libc;
use nix::sched::CloneFlags;
use nix::unistd::Pid;
use std::ffi::CStr;

/// Clones a process into new namespaces, which executes `program`, or ends with 127.
pub fn clone_and_execute(namespaces: CloneFlags, program: &CStr) -> Result<Pid, Errno> {
    // SAFETY: an all-zero `clone_args` is valid (clone3(2): zero means unset).
    let mut arguments: libc::clone_args = unsafe { std::mem::zeroed() };
    arguments.flags = namespaces.bits() as u64;
    arguments.exit_signal = libc::SIGCHLD as u64;
    let words = [program.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null()];
    // SAFETY: `arguments` is a clone_args of the size that is given; without
    // CLONE_VM and a stack the child returns here on a copy of this memory.
    let pid = unsafe {
        libc::syscall(
            libc::SYS_clone3,
            &raw const arguments,
            size_of::<libc::clone_args>(),
        )
    };
    if pid == 0 {
        // SAFETY: both lists end with a null pointer and live until the program
        // replaces this process; execve and _exit are async-signal-safe, which
        // is all that a child of a process with threads may call.
        unsafe {
            libc::execve(program.as_ptr(), words.as_ptr(), environment.as_ptr());
            libc::_exit(127);
        }
    }
    Errno::result(pid).map(|pid| Pid::from_raw(pid as libc::pid_t))
}
