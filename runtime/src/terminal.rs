//! The terminal of a container's process (runtime-spec, config.md, "Process",
//! `terminal`): it belongs to the container's own devpts; its master is sent to
//! whoever asked for it; its slave is the process's standard descriptors.

use std::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, makedev, mknodat};
use nix::sys::statfs::{DEVPTS_SUPER_MAGIC, fstatfs};
use nix::unistd::{Uid, fchown};
use oci_spec::runtime::Process;

use crate::error::{Error, Step};
use crate::report::{At, Failure};
use crate::sys;

/// What is sent with the master, as runc does.
const NAME: &[u8] = b"/dev/ptmx";
const PTS: &CStr = c"/dev/pts";
const DEV: &CStr = c"/dev";

/// A terminal that a process asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Plan {
    /// Rows and columns.
    size: Option<(u16, u16)>,
}

impl Plan {
    /// Checks `process.terminal` and `process.consoleSize`.
    pub fn new(process: &Process) -> Result<Option<Plan>, Error> {
        if !process.terminal().unwrap_or(false) {
            // The specification says that the size is ignored then.
            return Ok(None);
        }
        let size = match process.console_size() {
            None => None,
            Some(size) => {
                let number = |name: &str, value: u64| {
                    u16::try_from(value).map_err(|_| {
                        Error::invalid(
                            format!("process.consoleSize.{name}"),
                            "is above 65535, the maximum of a terminal",
                        )
                    })
                };
                Some((
                    number("height", size.height())?,
                    number("width", size.width())?,
                ))
            }
        };
        Ok(Some(Plan { size }))
    }

    /// In the container: creates the terminal, sends its master away, and makes
    /// the slave the controlling terminal and descriptors 0 to 2.
    ///
    /// `console`: whether the slave also becomes `/dev/console`, which only the
    /// first process's does. From then on it belongs to `owner`.
    pub fn open(
        self,
        socket: BorrowedFd<'_>,
        owner: u32,
        console: bool,
    ) -> Result<(), Failure<'static>> {
        let master = open_master().at(Step::Terminal, b"/dev/pts/ptmx")?;
        let slave = sys::unlock_terminal(master.as_fd())
            .and_then(|()| sys::open_slave(master.as_fd()))
            .at(Step::Terminal, b"'s other end")?;
        if let Some((rows, columns)) = self.size {
            sys::set_terminal_size(slave.as_fd(), rows, columns)
                .at(Step::Terminal, b"with its size")?;
        }
        fchown(&slave, Some(Uid::from_raw(owner)), None).at(Step::Terminal, b"for its user")?;
        sys::send_descriptor(socket, NAME, master.as_raw_fd()).at(Step::ConsoleSocket, b"")?;
        drop(master);
        if console {
            mount_console(&slave).at(Step::Terminal, b"on /dev/console")?;
        }
        let number = slave.as_raw_fd();
        sys::control_terminal(slave.as_fd())
            .and_then(|()| (0..3).try_for_each(|standard| sys::place(number, standard)))
            .at(Step::Terminal, b"as the standard descriptors")
    }
}

/// The multiplexer of the container's devpts: a root file system may have
/// anything by that name.
fn open_master() -> Result<OwnedFd, Errno> {
    let directory = openat2(
        nix::fcntl::AT_FDCWD,
        PTS,
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS),
    )?;
    if fstatfs(&directory)?.filesystem_type() != DEVPTS_SUPER_MAGIC {
        return Err(Errno::ENODEV);
    }
    let master = openat2(
        &directory,
        c"ptmx",
        OpenHow::new()
            .flags(OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV),
    )?;
    if fstat(&master)?.st_rdev != makedev(5, 2) {
        return Err(Errno::ENODEV);
    }
    Ok(master)
}

/// Never through a link: it could cover, or uncover, something masked or on the
/// host (CVE-2025-52565).
fn mount_console(slave: &OwnedFd) -> Result<(), Errno> {
    let dev = openat2(
        nix::fcntl::AT_FDCWD,
        DEV,
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS),
    )?;
    match mknodat(
        &dev,
        c"console",
        SFlag::S_IFREG,
        Mode::from_bits_truncate(0o600),
        0,
    ) {
        Ok(()) | Err(Errno::EEXIST | Errno::EROFS) => {}
        Err(errno) => return Err(errno),
    }
    let place = openat2(
        &dev,
        c"console",
        OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS),
    )?;
    let tree = sys::clone_tree_of(slave.as_fd(), false)?;
    sys::move_mount(tree.as_fd(), place.as_fd())
}
