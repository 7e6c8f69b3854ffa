//! Keeps the runtime's own program out of reach of containers.
//!
//! A process in a container can reach another process's program through
//! `/proc/PID/exe`, and the runtime's processes enter containers
//! (CVE-2019-5736). So this program executes itself again from a place that
//! nobody can write to: a detached read-only copy of its mount or, if mounting
//! is not permitted, a sealed copy in memory. On a read-only mount, as in
//! Wherry's image, this is not needed.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStringExt;

use anyhow::{Context, Result, bail};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, SealFlag, fcntl, open};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::Mode;
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::sys;

const PROGRAM: &std::ffi::CStr = c"/proc/self/exe";

/// Returns once this program cannot be written to; may execute it again first.
pub fn protect() -> Result<()> {
    let program = open(PROGRAM, OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .context("open /proc/self/exe")?;
    if is_protected(&program)? {
        // The kernel may have named this process after the descriptor.
        sys::set_name(c"wherry-runtime");
        return Ok(());
    }
    let copy = match read_only_mount() {
        Ok(mount) => mount,
        Err(_) => sealed_copy(program)?,
    };
    let arguments: Vec<CString> = std::env::args_os()
        .map(|argument| CString::new(argument.into_vec()))
        .collect::<Result<_, _>>()
        .context("a NUL byte in an argument")?;
    let errno = sys::execute(copy.as_fd(), &arguments);
    bail!("execute a protected copy of this program: {}", errno.desc())
}

fn is_protected(program: &OwnedFd) -> Result<bool> {
    let flags = fstatvfs(program)
        .context("fstatvfs /proc/self/exe")?
        .flags();
    if flags.contains(FsFlags::ST_RDONLY) {
        return Ok(true);
    }
    // EINVAL: no file in memory.
    Ok(fcntl(program, FcntlArg::F_GET_SEALS).is_ok_and(|seals| seals & ALL.bits() == ALL.bits()))
}

const ALL: SealFlag = SealFlag::F_SEAL_SEAL
    .union(SealFlag::F_SEAL_SHRINK)
    .union(SealFlag::F_SEAL_GROW)
    .union(SealFlag::F_SEAL_WRITE);

fn read_only_mount() -> Result<OwnedFd, Errno> {
    let mount = sys::clone_mount(PROGRAM)?;
    sys::make_read_only(mount.as_fd())?;
    Ok(mount)
}

fn sealed_copy(program: OwnedFd) -> Result<OwnedFd> {
    let copy = memfd_create(
        c"wherry-runtime",
        MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING,
    )
    .context("memfd_create")?;
    let mut copy = File::from(copy);
    std::io::copy(&mut File::from(program), &mut copy).context("copy this program into memory")?;
    fcntl(&copy, FcntlArg::F_ADD_SEALS(ALL)).context("seal the copy of this program")?;
    Ok(copy.into())
}
