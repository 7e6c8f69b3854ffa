//! From a checked specification to a running process.
//!
//! Everything that needs memory happens before the clone; after it the child
//! goes through its steps in order and allocates nothing, so that a
//! multi-threaded caller can start containers too.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sched::CloneFlags;
use nix::sys::stat::SFlag;
use nix::unistd::AccessFlags;
use oci_spec::runtime::Spec;

use crate::birth::{Birth, Kept, SETUP_FAILED, Started, fail};
use crate::error::{Error, Step};
use crate::hooks::{self, Reported};
use crate::listener::{self, Listener};
use crate::namespaces::{Namespaces, User};
use crate::process::{self, Common, Image};
use crate::report::{self, At, Failure};
use crate::rootfs::{HostPaths, Sources};
use crate::sys::{self, Strings};
use crate::sysctl::Sysctl;
use crate::text::c_string;
use crate::{cgroup, delegation, fields, rootfs, seccomp, sysctl};

/// A specification that was checked completely and prepared, to be started as
/// often as needed.
#[derive(Debug)]
pub struct Prepared {
    pub(crate) namespaces: Namespaces,
    pub(crate) process: process::Plan,
    root: Root,
    sysctls: Vec<Sysctl>,
    hostname: Option<CString>,
    domainname: Option<CString>,
    hooks: hooks::Plan,
    pub(crate) listener: Option<listener::Plan>,
    /// Who gets the cgroup.
    cgroup_owner: Option<u32>,
}

/// Where the container's root comes from.
#[derive(Debug)]
enum Root {
    /// A new mount namespace.
    Made(Box<rootfs::Plan>),
    /// A mount namespace that is joined, or the caller's.
    Joined(rootfs::Joined),
}

/// A root that is ready to be entered.
enum Ready<'a> {
    Made(rootfs::Built<'a>),
    Joined(&'a rootfs::Joined),
}

impl Root {
    /// Opens what it needs from the host, unless that was done.
    fn open(&self, sources: &mut Option<Sources>) -> Result<(), Failure<'_>> {
        match (self, sources) {
            (Root::Made(plan), Some(sources)) if !sources.are_open() => sources.open(plan),
            (Root::Made(_) | Root::Joined(_), _) => Ok(()),
        }
    }

    fn make(&self, sources: &mut Option<Sources>) -> Result<Ready<'_>, Failure<'_>> {
        match (self, sources) {
            (Root::Made(plan), Some(sources)) => plan.build(sources).map(Ready::Made),
            (Root::Made(_), None) => Err(Errno::EBADF).at(Step::Root, b""),
            (Root::Joined(joined), _) => Ok(Ready::Joined(joined)),
        }
    }
}

impl<'a> Ready<'a> {
    fn enter(self) -> Result<(), Failure<'a>> {
        match self {
            Ready::Made(built) => built.pivot(),
            Ready::Joined(joined) => joined.enter(),
        }
    }
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
    /// Directory of the container's own cgroup (v2), in which its process is
    /// born; without one it is born in the caller's.
    pub cgroup: Option<BorrowedFd<'a>>,
    /// Descriptors 0 to 2. With `process.terminal` the terminal takes their place.
    pub stdio: Stdio<'a>,
    /// Descriptors from 3 on. If there are any, LISTEN_FDS and LISTEN_PID are
    /// set.
    pub listen: &'a [BorrowedFd<'a>],
    /// Descriptors that follow those of `listen`.
    pub passed: &'a [BorrowedFd<'a>],
    /// Added to `process.env`: `NAME=value`; replaces a variable of the same name.
    pub env: &'a [String],
    /// How the container is created and started; without it, in one step.
    pub lifecycle: Option<Lifecycle<'a>>,
}

/// A container that is created first and started later (runtime-spec,
/// runtime.md, "Lifecycle").
///
/// Hooks, terminals and seccomp listeners need one.
#[derive(Debug, Clone, Copy)]
pub struct Lifecycle<'a> {
    /// The container's id, for the state that hooks get.
    pub id: &'a str,
    /// The bundle's directory, absolute, for the state that hooks get.
    pub bundle: &'a Path,
    /// A listening Unix socket of the type SOCK_SEQPACKET. A connection to it
    /// is the permission to start; it then reports what [`Started::setup`]
    /// would.
    pub gate: BorrowedFd<'a>,
    /// A connected Unix stream socket, to which the terminal's master is sent.
    pub console: Option<BorrowedFd<'a>>,
    /// A connected Unix stream socket of the seccomp agent
    /// (`linux.seccomp.listenerPath`).
    pub listener: Option<BorrowedFd<'a>>,
    /// The process stays in the caller's session keyring instead of starting
    /// its own, which is empty.
    pub keep_keyring: bool,
}

/// Checks the whole specification and refuses what cannot be enforced. No side effects.
///
/// `root.path` must be absolute. `linux.resources` is checked here and applied
/// by [`crate::cgroup::create`], before the start.
pub fn prepare(spec: &Spec) -> Result<Prepared, Error> {
    fields::check(spec)?;
    check_version(spec.version())?;
    if let Some(annotations) = spec.annotations()
        && annotations.contains_key("")
    {
        return Err(Error::invalid("annotations", "has an empty key"));
    }
    let Some(process) = spec.process() else {
        return Err(Error::invalid("process", "is missing"));
    };
    let linux = spec.linux().as_ref();
    let namespaces = Namespaces::plan(linux)?;
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
    let seccomp = linux
        .and_then(|linux| linux.seccomp().as_ref())
        .map(seccomp::compile)
        .transpose()?;
    let listens = seccomp
        .as_ref()
        .is_some_and(|program| program.needs_listener());
    Ok(Prepared {
        listener: listens.then(|| listener::Plan::new(spec)),
        process: process::Plan::new(process, Common::new(spec, seccomp)?)?.of_first_process(),
        root: if namespaces.makes(CloneFlags::CLONE_NEWNS) {
            Root::Made(Box::new(rootfs::Plan::new(spec)?))
        } else {
            Root::Joined(rootfs::Joined::new(spec, namespaces.mount.clone())?)
        },
        sysctls: match linux.and_then(|linux| linux.sysctl().as_ref()) {
            Some(sysctls) => sysctl::plan(sysctls, &namespaces)?,
            None => Vec::new(),
        },
        hostname: name("hostname", spec.hostname())?,
        domainname: name("domainname", spec.domainname())?,
        hooks: hooks::Plan::new(spec)?,
        cgroup_owner: delegation::owner(spec).filter(|owner| *owner != 0),
        namespaces,
    })
}

/// runtime-spec, config.md, "Specification version": SemVer 2.0.0, of which
/// every 1.x can be read.
fn check_version(version: &str) -> Result<(), Error> {
    let core = version.split(['-', '+']).next().unwrap_or_default();
    let is_number = |part: &str| {
        !part.is_empty()
            && part.bytes().all(|byte| byte.is_ascii_digit())
            && (part == "0" || !part.starts_with('0'))
    };
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() != 3 || !parts.iter().all(|part| is_number(part)) {
        return Err(Error::invalid(
            "ociVersion",
            format!("\"{version}\" is not a SemVer version such as 1.2.0"),
        ));
    }
    if parts[0] != "1" {
        return Err(Error::invalid(
            "ociVersion",
            format!("{version} is not 1.x"),
        ));
    }
    Ok(())
}

impl Prepared {
    /// Whether the seccomp profile has an action whose calls an agent answers,
    /// so that a process needs [`Lifecycle::listener`].
    pub fn needs_listener(&self) -> bool {
        self.listener.is_some()
    }

    /// The capabilities that the specification asks for and the caller cannot
    /// grant, such as `process.capabilities.bounding: CAP_BPF`.
    ///
    /// They are left out at the start; the specification asks for a warning.
    pub fn ungranted_capabilities(&self) -> Vec<String> {
        self.process.ungranted_capabilities()
    }

    /// Opens paths of the host as told, for a caller whose containers may have
    /// changed them. It goes beyond the specification, which lets a runtime follow
    /// links, and lets it make a missing working directory: here that is an error
    /// of the container's set-up. All of it happens in the container's process.
    ///
    /// # Errors
    /// A path that cannot be one.
    pub fn guard(&mut self, host: &HostPaths<'_>) -> Result<(), Error> {
        match &mut self.root {
            Root::Made(plan) => plan.guard(host),
            Root::Joined(_) => Ok(()),
        }
    }

    /// Clones the container's process, which then sets itself up, and returns
    /// at once.
    ///
    /// With a user namespace, a joined pid namespace, or time offsets it
    /// returns as soon as an intermediate process has cloned it.
    pub fn start(&self, start: Start<'_>) -> Result<Started, Error> {
        let count = format!("LISTEN_FDS={}", start.listen.len());
        let listen = (!start.listen.is_empty()).then_some(&count);
        let image = Image::new(
            &self.process.args,
            self.process.env.iter().chain(start.env).chain(listen),
        )?;
        let mut args = Strings::new(&image.args);
        let mut env = Strings::new(&image.env);
        let program = [start.stdio.stdin, start.stdio.stdout, start.stdio.stderr]
            .into_iter()
            .chain(start.listen.iter().copied())
            .chain(start.passed.iter().copied());
        if let (Some(cgroup), Some(owner)) = (start.cgroup, self.cgroup_owner) {
            delegation::give(cgroup, owner)?;
        }
        let mut birth = Birth::new(self.namespaces.clone, start.cgroup, program)?;
        let mut creation = self.creation(start.lifecycle, &mut birth)?;
        // For the intermediate process, which has the caller's privileges, or
        // for the container's; never for both. An ordinary user has privileges
        // only in the new namespaces.
        let privileged = nix::unistd::geteuid().is_root();
        let sources = match &self.root {
            Root::Made(plan) => Some(plan.sources(&mut birth)?),
            Root::Joined(_) => None,
        };
        let sources = RefCell::new(sources);

        let child = |report: BorrowedFd<'static>| {
            if !start.listen.is_empty() {
                env.set_listen_pid(nix::unistd::getpid());
            }
            match self.set_up(
                report,
                &mut creation,
                &mut sources.borrow_mut(),
                &image,
                &mut env,
            ) {
                Ok(()) => fail(report, &execute(&image, &mut args, &mut env)),
                Err(Stop::Failure(failure)) => fail(report, &failure),
                Err(Stop::Reported) => SETUP_FAILED,
            }
        };
        let maps = match &self.namespaces.user {
            Some(User::New(mapping)) => Some(mapping),
            Some(User::Joined { .. }) | None => None,
        };
        let started = if self.namespaces.need_between() {
            birth.between(
                || {
                    self.process.set_oom_score()?;
                    self.process.raise_limits()?;
                    if privileged {
                        self.root.open(&mut sources.borrow_mut())?;
                    }
                    self.namespaces.enter_between()
                },
                maps.map(|maps| |pid| maps.write(pid).at(Step::UserMaps, b"")),
                child,
            )
        } else {
            birth.direct(child)
        }?;
        if let Some(listener) = &creation.listener {
            listener.set_pid(started.pid);
        }
        Ok(started)
    }

    /// Prepares what the lifecycle requires of the process, or refuses a
    /// specification that needs a lifecycle if there is none.
    fn creation(
        &self,
        lifecycle: Option<Lifecycle<'_>>,
        birth: &mut Birth<'_>,
    ) -> Result<Creation<'_>, Error> {
        let hooks = self.hooks_of(lifecycle)?;
        let agent = lifecycle.and_then(|lifecycle| {
            Some(Listener {
                id: lifecycle.id,
                bundle: lifecycle.bundle,
                socket: lifecycle.listener?,
            })
        });
        let console = lifecycle.and_then(|lifecycle| lifecycle.console);
        Ok(Creation {
            gate: lifecycle.map(|lifecycle| birth.keep(lifecycle.gate)),
            console: self
                .process
                .console(console)?
                .map(|console| birth.keep(console)),
            state: hooks
                .state
                .as_ref()
                .map(|state| birth.keep(state.file.as_fd())),
            keep_keyring: lifecycle.is_some_and(|lifecycle| lifecycle.keep_keyring),
            listener: listener::ready(self.listener.as_ref(), agent, "creating", birth)?,
            hooks,
        })
    }

    /// The hooks that the process runs, if it has the lifecycle that they need.
    fn hooks_of(&self, lifecycle: Option<Lifecycle<'_>>) -> Result<hooks::Ready<'_>, Error> {
        match lifecycle {
            Some(lifecycle) => self
                .hooks
                .ready(lifecycle.id, &lifecycle.bundle.to_string_lossy()),
            None if self.hooks.is_empty() => Ok(hooks::Ready::default()),
            None => Err(Error::invalid(
                "hooks",
                "are for a container that is created first and started later",
            )),
        }
    }

    /// What the container's process does between its birth and its program.
    fn set_up<'a>(
        &'a self,
        report: BorrowedFd<'static>,
        creation: &mut Creation<'_>,
        sources: &mut Option<Sources>,
        image: &'a Image,
        env: &mut Strings<'_>,
    ) -> Result<(), Stop<'a>> {
        begin(creation.keep_keyring)?;
        if !self.namespaces.need_between() {
            self.process.set_oom_score()?;
        }
        self.process.check_label()?;
        let mut progress = self.process.begin(None)?;
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
        self.root.open(sources)?;
        let made = self.root.make(sources)?;
        if self.hooks.announced {
            report::announce_environment(report).at(Step::Environment, b"")?;
        }
        let state = creation.state.map(Kept::fd);
        creation.hooks.create_container(state, report)?;
        made.enter()?;
        self.process.enter(&mut progress, image, env)?;
        if let Some((terminal, console)) = self.process.terminal.zip(creation.console) {
            // In a mount namespace of others, `/dev/console` is theirs.
            let own = matches!(self.root, Root::Made(_));
            terminal.open(console.fd(), self.process.uid, own)?;
        }
        // An agent gets the listener while the container is created, as engines
        // expect: what follows then runs under the filter.
        let early = creation.gate.is_some() && creation.listener.is_some();
        if early {
            check_program(image)?;
            self.process
                .confine(&progress, creation.listener.as_mut())?;
        }
        if let Some(gate) = creation.gate {
            if !early {
                check_program(image)?;
            }
            wait_at(gate.fd(), report)?;
            creation.hooks.start_container(state, report)?;
        }
        if !early {
            self.process
                .confine(&progress, creation.listener.as_mut())?;
        }
        Ok(())
    }
}

/// The process's part of the lifecycle.
struct Creation<'a> {
    gate: Option<Kept>,
    console: Option<Kept>,
    hooks: hooks::Ready<'a>,
    /// The file of the hooks' state.
    state: Option<Kept>,
    listener: Option<listener::Ready>,
    keep_keyring: bool,
}

/// Why a process does not reach its program.
enum Stop<'a> {
    Failure(Failure<'a>),
    /// The caller knows already.
    Reported,
}

impl<'a> From<Failure<'a>> for Stop<'a> {
    fn from(failure: Failure<'a>) -> Self {
        Stop::Failure(failure)
    }
}

impl From<Reported> for Stop<'_> {
    fn from(Reported: Reported) -> Self {
        Stop::Reported
    }
}

/// Waits until somebody connects to the gate: the connection is the permission
/// to start, and replaces the report socket.
fn wait_at(gate: BorrowedFd<'_>, report: BorrowedFd<'static>) -> Result<(), Failure<'static>> {
    report::announce_created(report).at(Step::Gate, b"")?;
    let connection = loop {
        match sys::accept(gate) {
            Err(Errno::EINTR | Errno::ECONNABORTED) => {}
            result => break result.at(Step::Gate, b"")?,
        }
    };
    sys::place_for_setup(connection.as_raw_fd(), report.as_raw_fd()).at(Step::Gate, b"")
}

/// First steps of every process: others cannot inspect it, signals act as a
/// program expects, and it has neither the caller's session nor its keys.
pub(crate) fn begin(keep_keyring: bool) -> Result<(), Failure<'static>> {
    sys::undumpable().at(Step::Session, b"")?;
    sys::reset_signals();
    if !keep_keyring {
        sys::new_session_keyring().at(Step::Session, b"")?;
    }
    nix::unistd::setsid().map(drop).at(Step::Session, b"")
}

/// Tries the places where the program may be; returns what to report when none has it.
pub(crate) fn execute<'a>(
    image: &'a Image,
    args: &mut Strings<'_>,
    env: &mut Strings<'_>,
) -> Failure<'a> {
    search(image, |program| Err(sys::execute(program, args, env)))
        .err()
        .unwrap_or_else(|| not_found(image))
}

/// Whether there is a program to execute, so that a container without one is
/// not created.
fn check_program(image: &Image) -> Result<(), Failure<'_>> {
    search(image, |program| {
        nix::unistd::access(program, AccessFlags::X_OK)?;
        let found = SFlag::from_bits_truncate(nix::sys::stat::stat(program)?.st_mode);
        match found & SFlag::S_IFMT {
            SFlag::S_IFREG => Ok(()),
            _ => Err(Errno::EACCES),
        }
    })
}

/// As in execvp(3): after a directory that has no such program, or one that may
/// not be executed, the search continues.
fn search<'a>(
    image: &'a Image,
    mut attempt: impl FnMut(&'a CStr) -> Result<(), Errno>,
) -> Result<(), Failure<'a>> {
    let mut failure = not_found(image);
    for program in &image.programs {
        match attempt(program) {
            Ok(()) => return Ok(()),
            Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => {
                failure = Failure {
                    step: Step::Execute,
                    subject: program.as_bytes(),
                    errno,
                };
                if errno != Errno::EACCES {
                    break;
                }
            }
        }
    }
    Err(failure)
}

fn not_found(image: &Image) -> Failure<'_> {
    let name = image
        .args
        .first()
        .map_or(b"".as_slice(), |name| name.as_bytes());
    let (step, errno) = if name.contains(&b'/') {
        (Step::Execute, Errno::ENOENT)
    } else {
        (Step::Search, Errno::UnknownErrno)
    };
    Failure {
        step,
        subject: name,
        errno,
    }
}
