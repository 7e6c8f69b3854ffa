//! From a checked specification to a running process.
//!
//! Everything that needs memory is done before the clone; after it the child
//! goes through its steps in order and allocates nothing, so that a caller with
//! threads can start containers too.

use std::ffi::{CString, c_int};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sched::CloneFlags;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use oci_spec::runtime::Spec;

use crate::error::{Error, Step};
use crate::mount::c_string;
use crate::namespaces::{Namespaces, next_child_in, open_namespace};
use crate::process::{self, Image};
use crate::report::{self, At, Failure};
use crate::sys::{self, Strings};
use crate::sysctl::Sysctl;
use crate::{cgroup, fields, rootfs, seccomp, sysctl};

/// The exit status of a process whose set-up failed.
const SETUP_FAILED: c_int = 127;

/// A specification that was checked whole and made ready to be started, as often as needed.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) namespaces: Namespaces,
    pub(crate) process: process::Plan,
    rootfs: rootfs::Plan,
    sysctls: Vec<Sysctl>,
    hostname: Option<CString>,
    domainname: Option<CString>,
}

/// The three standard descriptors of a process.
#[derive(Debug, Clone, Copy)]
pub struct Stdio<'a> {
    /// Descriptor 0.
    pub stdin: BorrowedFd<'a>,
    /// Descriptor 1.
    pub stdout: BorrowedFd<'a>,
    /// Descriptor 2.
    pub stderr: BorrowedFd<'a>,
}

/// What differs from one start of a container to the next.
#[derive(Debug, Clone, Copy)]
pub struct Start<'a> {
    /// Directory of the container's own cgroup (v2), in which its process is born.
    pub cgroup: BorrowedFd<'a>,
    /// Descriptors 0 to 2.
    pub stdio: Stdio<'a>,
    /// Descriptors from 3 on. Where there are any, LISTEN_FDS and LISTEN_PID are set.
    pub listen: &'a [BorrowedFd<'a>],
    /// Added to `process.env`: `NAME=value`; replaces a variable of the same name.
    pub env: &'a [String],
}

/// A process that was cloned and sets itself up.
#[derive(Debug)]
pub struct Started {
    /// Its number in the caller's pid namespace; a child of the caller, to be reaped by it.
    pub pid: Pid,
    /// Refers to the process.
    pub pidfd: OwnedFd,
    /// Non-blocking, close-on-exec; give it to [`crate::setup_outcome`] when it is readable.
    pub setup: OwnedFd,
}

/// Checks the whole specification and refuses what cannot be enforced. No side effects.
///
/// `root.path` must be absolute. `linux.resources` is checked here and applied
/// by [`crate::cgroup::create`], before the start.
pub fn prepare(spec: &Spec) -> Result<Prepared, Error> {
    fields::check(spec)?;
    if !spec.version().starts_with("1.") {
        return Err(Error::invalid(
            "ociVersion",
            format!("{} is not 1.x", spec.version()),
        ));
    }
    let Some(process) = spec.process() else {
        return Err(Error::invalid("process", "is missing"));
    };
    let linux = spec.linux().as_ref();
    let namespaces = Namespaces::plan(
        linux
            .and_then(|linux| linux.namespaces().as_deref())
            .unwrap_or_default(),
    )?;
    if let Some(resources) = linux.and_then(|linux| linux.resources().as_ref()) {
        cgroup::check(resources)?;
    }
    let name = |field: &str, name: &Option<String>| match name.as_deref() {
        None | Some("") => Ok(None),
        Some(_) if namespaces.shares(CloneFlags::CLONE_NEWUTS) => Err(Error::invalid(
            field,
            "would be the host's: the container has no UTS namespace of its own",
        )),
        Some(name) if name.len() > 64 => Err(Error::invalid(field, "is longer than 64 bytes")),
        Some(name) => c_string(field, name).map(Some),
    };
    Ok(Prepared {
        process: process::Plan::new(
            process,
            linux
                .and_then(|linux| linux.seccomp().as_ref())
                .map(seccomp::compile)
                .transpose()?,
        )?,
        rootfs: rootfs::Plan::new(spec)?,
        sysctls: match linux.and_then(|linux| linux.sysctl().as_ref()) {
            Some(sysctls) => sysctl::plan(sysctls, &namespaces)?,
            None => Vec::new(),
        },
        hostname: name("hostname", spec.hostname())?,
        domainname: name("domainname", spec.domainname())?,
        namespaces,
    })
}

impl Prepared {
    /// Clones the container's process, which then sets itself up, and returns at once.
    pub fn start(&self, start: Start<'_>) -> Result<Started, Error> {
        let count = format!("LISTEN_FDS={}", start.listen.len());
        let listen = (!start.listen.is_empty()).then_some(&count);
        let image = Image::new(
            &self.process.args,
            self.process.env.iter().chain(start.env).chain(listen),
        )?;
        let mut args = Strings::new(&image.args);
        let mut env = Strings::new(&image.env);
        let sources = [start.stdio.stdin, start.stdio.stdout, start.stdio.stderr]
            .into_iter()
            .chain(start.listen.iter().copied());
        let mut descriptors = Descriptors::new(sources);
        let (setup, report) = report_pipe()?;

        let mut child = |report| {
            if !start.listen.is_empty() {
                env.set_listen_pid(nix::unistd::getpid());
            }
            match self.set_up() {
                Ok(()) => fail(report, &execute(&image, &mut args, &mut env)),
                Err(failure) => fail(report, &failure),
            }
        };
        let flags = self.namespaces.clone;
        let (pid, pidfd) = match &self.namespaces.pid {
            None => sys::spawn(flags, Some(start.cgroup), || {
                match descriptors.place([report.as_fd()]) {
                    Ok([report]) => child(report),
                    Err(failure) => fail(report.as_fd(), &failure),
                }
            })
            .map_err(failed("clone3"))?,
            Some(path) => {
                let namespace =
                    open_namespace(path).map_err(failed("opening the pid namespace"))?;
                spawn_in(
                    namespace.as_fd(),
                    flags,
                    start.cgroup,
                    &mut descriptors,
                    report.as_fd(),
                    |report, _namespace| child(report),
                )?
            }
        };
        Ok(Started { pid, pidfd, setup })
    }

    /// What the container's process does between its birth and its program.
    fn set_up(&self) -> Result<(), Failure<'_>> {
        begin()?;
        self.process.set_oom_score()?;
        self.namespaces.enter()?;
        for sysctl in &self.sysctls {
            sysctl.set()?;
        }
        if let Some(name) = &self.hostname {
            sys::sethostname(name.as_bytes()).at(Step::Hostname, name.as_bytes())?;
        }
        if let Some(name) = &self.domainname {
            sys::setdomainname(name.as_bytes()).at(Step::Hostname, name.as_bytes())?;
        }
        self.rootfs.enter()?;
        process::Plan::enter_directory(&self.process.cwd)?;
        self.process.confine()
    }
}

/// First steps of every process: others cannot look into it, signals act as a
/// program expects, and it has neither session nor keys of the caller's.
pub(crate) fn begin() -> Result<(), Failure<'static>> {
    sys::undumpable().at(Step::Session, b"")?;
    sys::reset_signals();
    sys::new_session_keyring().at(Step::Session, b"")?;
    nix::unistd::setsid().map(drop).at(Step::Session, b"")
}

/// Tries the places where the program may be; returns what to report when none has it.
pub(crate) fn execute<'a>(
    image: &'a Image,
    args: &mut Strings<'_>,
    env: &mut Strings<'_>,
) -> Failure<'a> {
    let mut failure = Failure {
        step: Step::Execute,
        subject: image.args.first().map_or(b"", |name| name.as_bytes()),
        errno: Errno::ENOENT,
    };
    for program in &image.programs {
        match sys::execute(program, args, env) {
            Errno::ENOENT | Errno::ENOTDIR => {}
            // As execvp(3): go on, but say so in the end.
            Errno::EACCES => failure.errno = Errno::EACCES,
            errno => {
                return Failure {
                    errno,
                    subject: program.as_bytes(),
                    ..failure
                };
            }
        }
    }
    failure
}

pub(crate) fn fail(report: BorrowedFd<'_>, failure: &Failure<'_>) -> c_int {
    report::send(report, failure);
    SETUP_FAILED
}

pub(crate) fn failed(call: &'static str) -> impl Fn(Errno) -> Error {
    move |errno| Error::Start { call, errno }
}

/// The pipe of [`Started::setup`], and the child's end of it.
pub(crate) fn report_pipe() -> Result<(OwnedFd, OwnedFd), Error> {
    nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).map_err(failed("pipe2"))
}

/// A child that is born in another pid namespace.
///
/// The caller's own pid namespace for children is not touched: a process in
/// between joins the namespace and clones the child with the caller as its
/// parent. It does not live longer than this call. It also places the
/// descriptors, so that the child, which others see at once, never has the
/// caller's; and it cannot be looked into from its birth.
pub(crate) fn spawn_in(
    namespace: BorrowedFd<'_>,
    flags: u64,
    cgroup: BorrowedFd<'_>,
    descriptors: &mut Descriptors,
    report: BorrowedFd<'_>,
    child: impl FnOnce(BorrowedFd<'static>, BorrowedFd<'static>) -> c_int,
) -> Result<(Pid, OwnedFd), Error> {
    let (read, write) = nix::unistd::pipe2(OFlag::O_CLOEXEC).map_err(failed("pipe2"))?;
    let (between, _) = sys::spawn(0, None, || {
        let kept = [report, namespace, cgroup, write.as_fd()];
        let Ok([report, namespace, cgroup, answer]) = descriptors.place(kept) else {
            return SETUP_FAILED;
        };
        let born = sys::undumpable()
            .and_then(|()| next_child_in(namespace))
            .and_then(|()| {
                sys::spawn(
                    flags | sys::CLONE_PARENT,
                    Some(cgroup),
                    || match sys::close_from(cgroup.as_raw_fd()) {
                        Ok(()) => child(report, namespace),
                        Err(errno) => fail(
                            report,
                            &Failure {
                                step: Step::Descriptors,
                                subject: b"",
                                errno,
                            },
                        ),
                    },
                )
            });
        let answer_bytes = match born {
            Ok((pid, _)) => pid.as_raw(),
            Err(errno) => -(errno as i32),
        }
        .to_ne_bytes();
        match nix::unistd::write(answer, &answer_bytes) {
            Ok(_) => 0,
            Err(_) => SETUP_FAILED,
        }
    })
    .map_err(failed("clone3"))?;
    drop(write);
    loop {
        match waitpid(between, Some(WaitPidFlag::__WALL)) {
            Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) => break,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed("waitpid")(errno)),
        }
    }
    let mut answer = [0; 4];
    match nix::unistd::read(&read, &mut answer) {
        Ok(4) => {}
        Ok(_) => return Err(failed("clone3")(Errno::ECHILD)),
        Err(errno) => return Err(failed("read")(errno)),
    }
    match i32::from_ne_bytes(answer) {
        pid if pid > 0 => {
            let pid = Pid::from_raw(pid);
            // Not reaped yet, so the number cannot be another process's.
            let pidfd = sys::pidfd_open(pid).map_err(failed("pidfd_open"))?;
            Ok((pid, pidfd))
        }
        errno => Err(failed("joining the pid namespace")(Errno::from_raw(-errno))),
    }
}

/// What becomes descriptors 0, 1, 2 … of a process.
pub(crate) struct Descriptors {
    numbers: Vec<RawFd>,
}

impl Descriptors {
    pub fn new<'a>(sources: impl Iterator<Item = BorrowedFd<'a>>) -> Descriptors {
        Descriptors {
            numbers: sources.map(|fd| fd.as_raw_fd()).collect(),
        }
    }

    /// In the child: puts each in its place and closes every other, but for
    /// those kept until the program is executed, which come right after them.
    pub fn place<const N: usize>(
        &mut self,
        kept: [BorrowedFd<'_>; N],
    ) -> Result<[BorrowedFd<'static>; N], Failure<'static>> {
        let count = self.numbers.len() as RawFd;
        let end = count + N as RawFd;
        let mut place = || {
            // First out of the way, so that none is overwritten before it was placed.
            for number in &mut self.numbers {
                *number = sys::duplicate_above(*number, end)?;
            }
            let mut above = [0; N];
            for (number, fd) in above.iter_mut().zip(kept) {
                *number = sys::duplicate_above(fd.as_raw_fd(), end)?;
            }
            for (target, number) in (0..).zip(&self.numbers) {
                sys::place(*number, target)?;
            }
            for (target, number) in (count..).zip(above) {
                sys::place_for_setup(number, target)?;
            }
            sys::close_from(end)
        };
        place().at(Step::Descriptors, b"")?;
        Ok(std::array::from_fn(|index| {
            sys::placed(count + index as RawFd)
        }))
    }
}
