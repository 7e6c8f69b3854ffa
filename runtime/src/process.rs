//! The process of a container: its environment, identity and limits.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::Mode;
use oci_spec::runtime::{LinuxCapabilities, PosixRlimit, PosixRlimitType, Process};

use crate::capability;
use crate::error::{Error, Step};
use crate::mount::{absolute, c_string};
use crate::report::{At, Failure};
use crate::seccomp::Program;
use crate::{listener, sys, terminal};

/// Where a program without a slash is looked for when the environment has no PATH.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
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
    seccomp: Option<Arc<Program>>,
}

#[derive(Debug, Clone)]
struct Rlimit {
    label: String,
    resource: u32,
    soft: u64,
    hard: u64,
}

/// The five sets of capabilities, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sets {
    bounding: u64,
    effective: u64,
    inheritable: u64,
    permitted: u64,
    ambient: u64,
}

impl Plan {
    /// Checks `process`.
    pub fn new(process: &Process, seccomp: Option<Arc<Program>>) -> Result<Plan, Error> {
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
            uid: user.uid(),
            gid: user.gid(),
            groups: user.additional_gids().clone().unwrap_or_default(),
            umask: Mode::from_bits(umask)
                .filter(|_| umask <= 0o777)
                .ok_or_else(|| {
                    Error::invalid("process.user.umask", format!("{umask:o} is no mask"))
                })?,
            rlimits: process
                .rlimits()
                .as_deref()
                .unwrap_or_default()
                .iter()
                .enumerate()
                .map(|(index, limit)| rlimit(index, limit))
                .collect::<Result<_, _>>()?,
            capabilities: Sets::plan(process.capabilities().as_ref())?,
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
            seccomp,
        })
    }

    /// The seccomp program, for a further process of the container.
    pub fn seccomp(&self) -> Option<Arc<Program>> {
        self.seccomp.clone()
    }

    /// The socket that the terminal's master is sent to, where there is a terminal.
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

    /// In the process in between: only its caller's root may raise the limits
    /// that others cannot; the process itself then lowers what it has.
    pub fn raise_limits(&self) -> Result<(), Failure<'_>> {
        for limit in &self.rlimits {
            sys::raise_hard_limit(limit.resource, limit.hard)
                .at(Step::Rlimit, limit.label.as_bytes())?;
        }
        Ok(())
    }

    /// In the container's root: enters the working directory.
    ///
    /// No magic link is followed: `/proc/self/fd/…` could lead out of the root.
    pub fn enter_directory(cwd: &CString) -> Result<(), Failure<'_>> {
        let how = OpenHow::new()
            .flags(OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_NO_MAGICLINKS);
        openat2(nix::fcntl::AT_FDCWD, cwd.as_c_str(), how)
            .and_then(nix::unistd::fchdir)
            .at(Step::WorkingDirectory, cwd.as_bytes())
    }

    /// Gives up everything that the program is not to have. Nothing but execve comes after.
    ///
    /// The order is the kernel's: limits are raised and the bounding set is
    /// changed with the caller's capabilities; the change of the user clears
    /// the effective set and (but for keepcaps) the permitted one; ambient
    /// capabilities must be permitted and inheritable. Without no-new-privileges
    /// the filter can be loaded only while CAP_SYS_ADMIN is there, and must then
    /// allow the calls that follow.
    pub fn confine(&self, mut listener: Option<&mut listener::Ready>) -> Result<(), Failure<'_>> {
        for limit in &self.rlimits {
            sys::set_limit(limit.resource, limit.soft, limit.hard)
                .at(Step::Rlimit, limit.label.as_bytes())?;
        }
        nix::sys::stat::umask(self.umask);
        if !self.no_new_privileges {
            self.load_seccomp(listener.take())?;
        }
        for number in 0..64 {
            if self.capabilities.bounding & 1 << number != 0 {
                continue;
            }
            match sys::drop_bounding(number) {
                Ok(()) => {}
                Err(Errno::EINVAL) => break,
                Err(errno) => return Err(errno).at(Step::Bounding, b""),
            }
        }
        sys::keep_capabilities().at(Step::Capabilities, b"")?;
        sys::set_user(self.uid, self.gid, &self.groups).at(Step::User, b"")?;
        let sets = &self.capabilities;
        sys::set_capabilities(sets.effective, sets.permitted, sets.inheritable)
            .at(Step::Capabilities, b"")?;
        for number in (0..64).filter(|number| sets.ambient & 1 << number != 0) {
            sys::raise_ambient(number).at(Step::Ambient, b"")?;
        }
        if self.no_new_privileges {
            sys::no_new_privileges().at(Step::NoNewPrivileges, b"")?;
            self.load_seccomp(listener)?;
        }
        Ok(())
    }

    fn load_seccomp(&self, listener: Option<&mut listener::Ready>) -> Result<(), Failure<'_>> {
        match (&self.seccomp, listener) {
            (Some(program), Some(listener)) => listener
                .hand_over(|| program.load())
                .at(Step::Listener, b""),
            (Some(program), None) => program.load().map(drop).at(Step::Seccomp, b""),
            (None, _) => Ok(()),
        }
    }
}

impl Sets {
    fn plan(capabilities: Option<&LinuxCapabilities>) -> Result<Sets, Error> {
        // Without the field the process has none.
        let get = |set: fn(&LinuxCapabilities) -> &Option<_>| {
            capability::bits(capabilities.and_then(|sets| set(sets).as_ref()))
        };
        let sets = Sets {
            bounding: get(LinuxCapabilities::bounding),
            effective: get(LinuxCapabilities::effective),
            inheritable: get(LinuxCapabilities::inheritable),
            permitted: get(LinuxCapabilities::permitted),
            ambient: get(LinuxCapabilities::ambient),
        };
        if sets.effective & !sets.permitted != 0 {
            return Err(Error::invalid(
                "process.capabilities.effective",
                "holds a capability that is not in process.capabilities.permitted",
            ));
        }
        if sets.ambient & !(sets.permitted & sets.inheritable) != 0 {
            return Err(Error::invalid(
                "process.capabilities.ambient",
                "holds a capability that is not in both process.capabilities.permitted and process.capabilities.inheritable",
            ));
        }
        Ok(sets)
    }
}

fn rlimit(index: usize, limit: &PosixRlimit) -> Result<Rlimit, Error> {
    let (name, resource) = match limit.typ() {
        PosixRlimitType::RlimitCpu => ("RLIMIT_CPU", libc::RLIMIT_CPU),
        PosixRlimitType::RlimitFsize => ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
        PosixRlimitType::RlimitData => ("RLIMIT_DATA", libc::RLIMIT_DATA),
        PosixRlimitType::RlimitStack => ("RLIMIT_STACK", libc::RLIMIT_STACK),
        PosixRlimitType::RlimitCore => ("RLIMIT_CORE", libc::RLIMIT_CORE),
        PosixRlimitType::RlimitRss => ("RLIMIT_RSS", libc::RLIMIT_RSS),
        PosixRlimitType::RlimitNproc => ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
        PosixRlimitType::RlimitNofile => ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
        PosixRlimitType::RlimitMemlock => ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
        PosixRlimitType::RlimitAs => ("RLIMIT_AS", libc::RLIMIT_AS),
        PosixRlimitType::RlimitLocks => ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
        PosixRlimitType::RlimitSigpending => ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
        PosixRlimitType::RlimitMsgqueue => ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
        PosixRlimitType::RlimitNice => ("RLIMIT_NICE", libc::RLIMIT_NICE),
        PosixRlimitType::RlimitRtprio => ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
        PosixRlimitType::RlimitRttime => ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    };
    if limit.soft() > limit.hard() {
        return Err(Error::invalid(
            format!("process.rlimits[{index}]"),
            format!("the soft {name} is above the hard one"),
        ));
    }
    Ok(Rlimit {
        label: name.to_string(),
        resource,
        soft: limit.soft(),
        hard: limit.hard(),
    })
}

/// Arguments and environment as execve takes them, and what to try to execute.
#[derive(Debug)]
pub(crate) struct Image {
    pub programs: Vec<CString>,
    pub args: Vec<CString>,
    pub env: Vec<CString>,
}

impl Image {
    /// Later variables replace earlier ones of the same name.
    pub fn new<'a>(args: &[String], env: impl Iterator<Item = &'a String>) -> Result<Image, Error> {
        let mut variables: BTreeMap<&str, &str> = BTreeMap::new();
        for variable in env {
            let Some((name, value)) = variable
                .split_once('=')
                .filter(|(name, _)| !name.is_empty())
            else {
                return Err(Error::invalid(
                    "process.env",
                    format!("\"{variable}\" is not NAME=value"),
                ));
            };
            variables.insert(name, value);
        }
        let Some(program) = args.first().filter(|program| !program.is_empty()) else {
            return Err(Error::invalid("process.args", "names no program"));
        };
        let programs = if program.contains('/') {
            vec![c_string("process.args", program.as_str())?]
        } else {
            let path = variables.get("PATH").copied().unwrap_or(DEFAULT_PATH);
            path.split(':')
                // An empty part would be the working directory, which is not searched.
                .filter(|directory| directory.starts_with('/'))
                .map(|directory| c_string("process.args", format!("{directory}/{program}")))
                .collect::<Result<_, _>>()?
        };
        Ok(Image {
            programs,
            args: args
                .iter()
                .map(|argument| c_string("process.args", argument.as_str()))
                .collect::<Result<_, _>>()?,
            env: variables
                .iter()
                .map(|(name, value)| c_string("process.env", format!("{name}={value}")))
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| text.to_string()).collect()
    }

    #[test]
    fn a_program_without_a_slash_is_looked_for_in_path() {
        let env = strings(&["PATH=/a:relative::/b", "X=1", "X=2"]);
        let image = Image::new(&strings(&["ls", "-l"]), env.iter()).unwrap();
        assert_eq!(image.programs, [c"/a/ls".to_owned(), c"/b/ls".to_owned()]);
        assert_eq!(
            image.env,
            [c"PATH=/a:relative::/b".to_owned(), c"X=2".to_owned()]
        );
    }

    #[test]
    fn an_ambient_capability_must_be_permitted_and_inheritable() {
        let sets = oci_spec::runtime::LinuxCapabilitiesBuilder::default()
            .bounding([oci_spec::runtime::Capability::Kill])
            .effective([])
            .inheritable([])
            .permitted([oci_spec::runtime::Capability::Kill])
            .ambient([oci_spec::runtime::Capability::Kill])
            .build()
            .unwrap();
        let text = Sets::plan(Some(&sets)).unwrap_err().to_string();
        assert!(text.contains("process.capabilities.ambient"), "{text}");
    }
}
