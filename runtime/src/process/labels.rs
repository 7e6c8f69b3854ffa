//! The security label that the program gets when it is executed: AppArmor's or
//! SELinux's.

use std::ffi::CStr;
use std::os::fd::{BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::sys::stat::Mode;
use nix::unistd::AccessFlags;
use oci_spec::runtime::Process;

use crate::error::{Error, Step};
use crate::report::{At, Failure};

const PROC: &CStr = c"/proc";
/// Below it.
const APPARMOR: &CStr = c"thread-self/attr/apparmor/exec";
const SELINUX: &CStr = c"thread-self/attr/exec";
/// Exists if the kernel has SELinux and it was not switched off.
const SELINUX_IS_ON: &CStr = c"/sys/fs/selinux/enforce";

/// What is written where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    apparmor: bool,
    text: Vec<u8>,
}

/// The kernel's file for it.
#[derive(Debug)]
pub(crate) struct Opened(OwnedFd);

impl Label {
    /// Checks `process.apparmorProfile` and `process.selinuxLabel`; a kernel
    /// applies only one of the two to a process.
    pub fn new(process: &Process) -> Result<Option<Label>, Error> {
        let given = |label: &Option<String>| label.clone().filter(|label| !label.is_empty());
        let profile = given(process.apparmor_profile());
        let label = given(process.selinux_label());
        match (profile, label) {
            (None, None) => Ok(None),
            (Some(profile), None) => Ok(Some(Label {
                apparmor: true,
                text: format!("exec {profile}").into_bytes(),
            })),
            (None, Some(label)) => Ok(Some(Label {
                apparmor: false,
                text: label.into_bytes(),
            })),
            (Some(_), Some(_)) => Err(Error::invalid(
                "process.selinuxLabel",
                "cannot be combined with process.apparmorProfile",
            )),
        }
    }

    fn step(&self) -> Step {
        if self.apparmor {
            Step::AppArmor
        } else {
            Step::SeLinux
        }
    }

    /// While the host's `/sys` is in place: whether the kernel has SELinux. Its
    /// file in `/proc` is another module's otherwise.
    pub fn check(&self) -> Result<(), Failure<'_>> {
        if self.apparmor {
            return Ok(());
        }
        match nix::unistd::access(SELINUX_IS_ON, AccessFlags::F_OK) {
            Err(Errno::ENOENT) => Err(Errno::EOPNOTSUPP),
            result => result,
        }
        .at(self.step(), &self.text)
    }

    /// `proc` is the host's, or else that is in place: the container's could be
    /// anything.
    pub fn open(&self, proc: Option<BorrowedFd<'_>>) -> Result<Opened, Failure<'_>> {
        let file = if self.apparmor { APPARMOR } else { SELINUX };
        let flags = OFlag::O_WRONLY | OFlag::O_CLOEXEC;
        let opened = match proc {
            Some(proc) => openat(proc, file, flags, Mode::empty()),
            None => open(PROC, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
                .and_then(|proc| openat(proc, file, flags, Mode::empty())),
        };
        match opened {
            // The kernel has none.
            Err(Errno::ENOENT) => Err(Errno::EOPNOTSUPP),
            result => result.map(Opened),
        }
        .at(self.step(), &self.text)
    }

    /// Takes effect at the next execve.
    pub fn apply(&self, opened: &Opened) -> Result<(), Failure<'_>> {
        nix::unistd::write(&opened.0, &self.text)
            .map(drop)
            .at(self.step(), &self.text)
    }
}
