//! The process of a container: its environment, identity and limits.

mod capabilities;
mod home;
mod image;
mod labels;
mod landlock;
mod limits;
mod scheduling;

use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{Mode, SFlag, fstat, major};
use nix::unistd::{Gid, Uid, fchown};
use oci_spec::runtime::{LinuxPersonalityDomain, Process, Spec};

use crate::error::{Error, Step};
use crate::report::{At, Failure};
use crate::seccomp::Program;
use crate::sys::Strings;
use crate::text::{absolute, real_id};
use crate::{listener, sys, terminal};

use capabilities::Sets;
use home::Home;
pub(crate) use image::Image;
use labels::{Label, Opened};
use limits::Rlimit;

const OOM_SCORE: &std::ffi::CStr = c"/proc/self/oom_score_adj";

/// The checked `process` of a specification.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    pub args: Vec<String>,
    pub env: Vec<String>,
    pub cwd: CString,
    pub terminal: Option<terminal::Plan>,
    pub uid: u32,
    gid: u32,
    groups: Vec<u32>,
    umask: Mode,
    rlimits: Vec<Rlimit>,
    capabilities: Sets,
    no_new_privileges: bool,
    oom_score: Option<Vec<u8>>,
    scheduling: scheduling::Plan,
    label: Option<Label>,
    pub common: Common,
}

/// What all processes of a container have in common.
#[derive(Debug, Clone)]
pub(crate) struct Common {
    pub seccomp: Option<Arc<Program>>,
    /// As personality(2) takes it.
    personality: Option<u32>,
    landlock: Option<Arc<landlock::Plan>>,
}

impl Common {
    /// Checks what the specification says of all processes.
    pub fn new(spec: &Spec, seccomp: Option<Arc<Program>>) -> Result<Common, Error> {
        let linux = spec.linux().as_ref();
        let personality = linux.and_then(|linux| linux.personality().as_ref());
        if let Some([flag, ..]) = personality.and_then(|all| all.flags().as_deref()) {
            return Err(Error::invalid(
                "linux.personality.flags",
                format!("\"{flag}\": the specification has no flags yet"),
            ));
        }
        Ok(Common {
            seccomp,
            personality: personality.map(|personality| match personality.domain() {
                LinuxPersonalityDomain::PerLinux => 0,
                LinuxPersonalityDomain::PerLinux32 => 8,
            }),
            landlock: landlock::Plan::new(spec)?.map(Arc::new),
        })
    }
}

/// What a process that sets itself up has started and must finish.
#[derive(Debug)]
pub(crate) struct Progress {
    label: Option<Opened>,
    /// Only its user can enter its working directory.
    enter_as_user: bool,
}

impl Plan {
    /// Checks `process`.
    pub fn new(process: &Process, common: Common) -> Result<Plan, Error> {
        let args = process.args().clone().unwrap_or_default();
        let env = process.env().clone().unwrap_or_default();
        Image::new(&args, env.iter())?;
        let user = process.user();
        let umask = user.umask().unwrap_or(0o022);
        Ok(Plan {
            args,
            env,
            cwd: absolute("process.cwd", process.cwd())?,
            terminal: terminal::Plan::new(process)?,
            uid: real_id("process.user.uid", user.uid())?,
            gid: real_id("process.user.gid", user.gid())?,
            groups: user
                .additional_gids()
                .iter()
                .flatten()
                .enumerate()
                .map(|(index, id)| real_id(&format!("process.user.additionalGids[{index}]"), *id))
                .collect::<Result<_, _>>()?,
            umask: Mode::from_bits(umask)
                .filter(|_| umask <= 0o777)
                .ok_or_else(|| {
                    Error::invalid("process.user.umask", format!("{umask:o} is not a mask"))
                })?,
            rlimits: limits::plan(process.rlimits().as_deref().unwrap_or_default())?,
            capabilities: Sets::new(process.capabilities().as_ref()),
            no_new_privileges: process.no_new_privileges().unwrap_or(false),
            oom_score: process
                .oom_score_adj()
                .map(|score| match score {
                    -1000..=1000 => Ok(score.to_string().into_bytes()),
                    _ => Err(Error::invalid(
                        "process.oomScoreAdj",
                        format!("{score} is not between -1000 and 1000"),
                    )),
                })
                .transpose()?,
            scheduling: scheduling::Plan::new(process)?,
            label: Label::new(process)?,
            common,
        })
    }

    /// A container's first process has no CPUs of its own (config.md, "Linux
    /// Process", `execCPUAffinity`).
    pub fn of_first_process(mut self) -> Plan {
        self.scheduling = self.scheduling.of_first_process();
        self
    }

    /// What the caller cannot grant: `process.capabilities.bounding: CAP_BPF`.
    pub fn ungranted_capabilities(&self) -> Vec<String> {
        self.capabilities.ungranted()
    }

    /// The socket that the terminal's master is sent to, if there is a
    /// terminal.
    pub fn console<'a>(
        &self,
        socket: Option<BorrowedFd<'a>>,
    ) -> Result<Option<BorrowedFd<'a>>, Error> {
        match (self.terminal, socket) {
            (None, _) => Ok(None),
            (Some(_), Some(socket)) => Ok(Some(socket)),
            (Some(_), None) => Err(Error::invalid(
                "process.terminal",
                "needs a console socket, to which the terminal is sent",
            )),
        }
    }

    /// While the host's `/proc` is there.
    pub fn set_oom_score(&self) -> Result<(), Failure<'_>> {
        let Some(score) = &self.oom_score else {
            return Ok(());
        };
        nix::fcntl::open(OOM_SCORE, OFlag::O_WRONLY | OFlag::O_CLOEXEC, Mode::empty())
            .and_then(|file| nix::unistd::write(&file, score))
            .map(drop)
            .at(Step::OomScore, score)
    }

    /// With the caller's privileges, before they are lost in a user namespace.
    pub fn raise_limits(&self) -> Result<(), Failure<'_>> {
        self.rlimits.iter().try_for_each(Rlimit::raise)
    }

    /// Whether the program gets a security label, for which [`Plan::begin`]
    /// needs the host's `/proc`.
    pub fn has_label(&self) -> bool {
        self.label.is_some()
    }

    /// Whether the kernel has the security module, while the host's `/sys` is
    /// there.
    pub fn check_label(&self) -> Result<(), Failure<'_>> {
        self.label.as_ref().map_or(Ok(()), Label::check)
    }

    /// `proc` is the host's, or else it is in place.
    pub fn begin(&self, proc: Option<BorrowedFd<'_>>) -> Result<Progress, Failure<'_>> {
        self.scheduling.begin()?;
        Ok(Progress {
            label: self
                .label
                .as_ref()
                .map(|label| label.open(proc))
                .transpose()?,
            enter_as_user: false,
        })
    }

    /// In the container's root: enters the working directory, and sets HOME if
    /// the environment has none.
    pub fn enter(
        &self,
        progress: &mut Progress,
        image: &Image,
        env: &mut Strings<'_>,
    ) -> Result<(), Failure<'_>> {
        if image.homeless {
            env.set_last(Home::find(self.uid).as_bytes());
        }
        match self.enter_directory() {
            // Such as a network file system that does not trust root.
            Err(Failure {
                errno: Errno::EACCES | Errno::EPERM,
                ..
            }) if self.uid != 0 => {
                progress.enter_as_user = true;
                Ok(())
            }
            result => result,
        }
    }

    /// No magic link is followed: `/proc/self/fd/…` could lead out of the root
    /// (CVE-2024-21626). This is checked again after entering the directory.
    fn enter_directory(&self) -> Result<(), Failure<'_>> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(nix::fcntl::AT_FDCWD, self.cwd.as_c_str(), how)
            .and_then(nix::unistd::fchdir)
            .and_then(|()| sys::directory_is_inside())
            .at(Step::WorkingDirectory, self.cwd.as_bytes())
    }

    /// Gives up everything that the program must not have. Only execve comes
    /// after.
    ///
    /// The order is the kernel's: limits are raised and the bounding set is
    /// changed with the caller's capabilities; changing the user clears the
    /// effective set and (except with keepcaps) the permitted one; ambient
    /// capabilities must be permitted and inheritable. Without
    /// no-new-privileges the filter can be loaded only while the process has
    /// CAP_SYS_ADMIN, and must then allow the calls that follow.
    pub fn confine(
        &self,
        progress: &Progress,
        mut listener: Option<&mut listener::Ready>,
    ) -> Result<(), Failure<'_>> {
        if let (Some(label), Some(opened)) = (&self.label, &progress.label) {
            label.apply(opened)?;
        }
        self.scheduling.apply()?;
        if let Some(personality) = self.common.personality {
            sys::set_personality(personality).at(Step::Personality, b"")?;
        }
        self.own_standard_descriptors()?;
        for limit in &self.rlimits {
            limit.set()?;
        }
        nix::sys::stat::umask(self.umask);
        if let Some(landlock) = &self.common.landlock {
            landlock.enforce()?;
        }
        if !self.no_new_privileges {
            self.load_seccomp(listener.take())?;
        }
        self.capabilities.bound()?;
        sys::keep_capabilities().at(Step::Capabilities, b"")?;
        sys::set_user(self.uid, self.gid, &self.groups).at(Step::User, b"")?;
        self.capabilities.set()?;
        if progress.enter_as_user {
            self.enter_directory()?;
        }
        if self.no_new_privileges {
            sys::no_new_privileges().at(Step::NoNewPrivileges, b"")?;
            self.load_seccomp(listener)?;
        }
        Ok(())
    }

    /// A user that is not root can open its standard descriptors again, by
    /// `/dev/stdout`, only if it owns them.
    ///
    /// Files and devices of the machine stay as they are; what cannot be given
    /// away (to an unmapped owner) works anyway.
    fn own_standard_descriptors(&self) -> Result<(), Failure<'_>> {
        if self.uid == 0 {
            return Ok(());
        }
        for number in 0..3 {
            let descriptor = sys::placed(number);
            let file = fstat(descriptor).at(Step::User, b"of the standard descriptors")?;
            let kind = SFlag::from_bits_truncate(file.st_mode) & SFlag::S_IFMT;
            // The terminals of devpts (Unix98 slaves) have these numbers.
            let terminal = kind == SFlag::S_IFCHR && matches!(major(file.st_rdev), 136..=143);
            let ours = matches!(kind, SFlag::S_IFIFO | SFlag::S_IFSOCK);
            if file.st_uid == self.uid || !(ours || terminal) {
                continue;
            }
            let group = (!terminal).then(|| Gid::from_raw(self.gid));
            match fchown(descriptor, Some(Uid::from_raw(self.uid)), group) {
                Ok(()) | Err(Errno::EPERM | Errno::EROFS | Errno::EINVAL) => {}
                Err(errno) => {
                    return Err(errno).at(Step::User, b"of the standard descriptors");
                }
            }
        }
        Ok(())
    }

    fn load_seccomp(&self, listener: Option<&mut listener::Ready>) -> Result<(), Failure<'_>> {
        match (&self.common.seccomp, listener) {
            (Some(program), Some(listener)) => listener
                .hand_over(|| program.load())
                .at(Step::Listener, b""),
            (Some(program), None) => program.load().map(drop).at(Step::Seccomp, b""),
            (None, _) => Ok(()),
        }
    }
}
