//! Hooks (runtime-spec, config.md, "POSIX-platform Hooks"): programs that are
//! run at points of a container's life with its state on their standard input.
//!
//! The creator of the container runs those of the runtime's namespaces, with
//! [`run`]. The container's process itself runs those of the container's
//! namespaces. It cannot allocate, so everything is prepared before it is born.

use std::ffi::{CString, c_int};
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::uio::pwrite;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, Whence, lseek, pipe2, read};
use oci_spec::runtime::{Hook, Spec, State};

use crate::birth::failed;
use crate::error::{Error, Step};
use crate::process::Image;
use crate::report::{self, Failure};
use crate::sys::{self, Strings};
use crate::text::{absolute, c_string};

/// How much of a hook's output is kept for its error message.
const OUTPUT: usize = 300;
/// How long an error message may be.
const MESSAGE: usize = 500;

/// The checked hooks that the container's process runs, and whether the caller has any to run.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Whether the process announces its environment, for prestart and createRuntime.
    pub announced: bool,
    create_container: Vec<Prepared>,
    start_container: Vec<Prepared>,
    /// `ociVersion` and `annotations` of the state.
    version: String,
    annotations: std::collections::HashMap<String, String>,
}

#[derive(Debug)]
struct Prepared {
    /// For messages: `createContainer hook /usr/bin/hook`.
    label: String,
    image: Image,
    timeout: Option<Duration>,
}

impl Prepared {
    /// `kind` is for messages; a hook without `env` gets `environment`.
    fn new(
        field: &str,
        kind: &str,
        hook: &Hook,
        environment: &[CString],
    ) -> Result<Prepared, Error> {
        let path = absolute(&format!("{field}.path"), hook.path())?;
        let timeout = match hook.timeout() {
            None => None,
            Some(seconds @ 1..) => Some(Duration::from_secs(seconds as u64)),
            Some(_) => {
                return Err(Error::invalid(
                    format!("{field}.timeout"),
                    "is not greater than zero",
                ));
            }
        };
        let strings = |name: &str, list: &[String]| {
            list.iter()
                .map(|text| c_string(&format!("{field}.{name}"), text.as_str()))
                .collect::<Result<Vec<CString>, Error>>()
        };
        let mut args = strings("args", hook.args().as_deref().unwrap_or_default())?;
        if args.is_empty() {
            args.push(path.clone());
        }
        let name = hook.path().display();
        Ok(Prepared {
            label: format!("{kind} hook {name}"),
            image: Image {
                homeless: false,
                programs: vec![path],
                args,
                env: match hook.env() {
                    Some(env) => strings("env", env)?,
                    None => environment.to_vec(),
                },
            },
            timeout,
        })
    }
}

/// The environment of the caller, which the hooks of the runtime's namespaces
/// and paths have unless they name their own.
fn callers_environment() -> Vec<CString> {
    std::env::vars_os()
        .filter_map(|(name, value)| {
            let mut variable = name.into_encoded_bytes();
            variable.push(b'=');
            variable.extend(value.into_encoded_bytes());
            CString::new(variable).ok()
        })
        .collect()
}

/// The environment of the container's process: hooks in the container are
/// programs of its image, to whom the caller's is not shown.
fn containers_environment(spec: &Spec) -> Result<Vec<CString>, Error> {
    let env = spec
        .process()
        .as_ref()
        .and_then(|process| process.env().as_ref());
    env.into_iter()
        .flatten()
        .map(|variable| c_string("process.env", variable.as_str()))
        .collect()
}

impl Plan {
    /// Checks `hooks`.
    pub fn new(spec: &Spec) -> Result<Plan, Error> {
        let Some(hooks) = spec.hooks() else {
            return Ok(Plan::default());
        };
        let callers = callers_environment();
        let prepare_with = |kind: &str, list: &Option<Vec<Hook>>, env: &[CString]| {
            list.iter()
                .flatten()
                .enumerate()
                .map(|(index, hook)| {
                    Prepared::new(&format!("hooks.{kind}[{index}]"), kind, hook, env)
                })
                .collect::<Result<Vec<_>, Error>>()
        };
        let prepare = |kind: &str, list: &Option<Vec<Hook>>| prepare_with(kind, list, &callers);
        #[allow(deprecated)] // Docker's network is set up by one.
        let prestart = prepare("prestart", hooks.prestart())?;
        let create_runtime = prepare("createRuntime", hooks.create_runtime())?;
        prepare("poststart", hooks.poststart())?;
        prepare("poststop", hooks.poststop())?;
        Ok(Plan {
            announced: !prestart.is_empty() || !create_runtime.is_empty(),
            create_container: prepare("createContainer", hooks.create_container())?,
            start_container: prepare_with(
                "startContainer",
                hooks.start_container(),
                &containers_environment(spec)?,
            )?,
            version: spec.version().clone(),
            annotations: spec.annotations().clone().unwrap_or_default(),
        })
    }

    /// Whether nothing has to run while the container is created and started.
    pub fn is_empty(&self) -> bool {
        !self.announced && self.create_container.is_empty() && self.start_container.is_empty()
    }

    /// Prepares what the process runs.
    pub fn ready(&self, id: &str, bundle: &str) -> Result<Ready<'_>, Error> {
        if self.create_container.is_empty() && self.start_container.is_empty() {
            return Ok(Ready::default());
        }
        let state = serde_json::json!({
            "ociVersion": self.version,
            "id": id,
            "bundle": bundle,
            "annotations": self.annotations,
        });
        let mut text = serde_json::to_string(&state).map_err(Error::Spec)?;
        // What is known only later has a fixed place; JSON allows spaces there.
        text.pop();
        text.push_str(",\"status\":");
        let status = text.len() as i64;
        let _ = write!(text, "{:10},\"pid\":", "");
        let pid = text.len() as i64;
        let _ = write!(text, "{:10}}}", "");
        Ok(Ready {
            state: Some(StateFile {
                file: memory_file(&text)?,
                status,
                pid,
            }),
            create_container: self.create_container.iter().map(Runnable::new).collect(),
            start_container: self.start_container.iter().map(Runnable::new).collect(),
        })
    }
}

fn memory_file(text: &str) -> Result<OwnedFd, Error> {
    let file = memfd_create(c"state", MFdFlags::MFD_CLOEXEC).map_err(failed("memfd_create"))?;
    let mut file = File::from(file);
    file.write_all(text.as_bytes()).map_err(|error| {
        failed("write")(error.raw_os_error().map_or(Errno::EIO, Errno::from_raw))
    })?;
    Ok(file.into())
}

/// Hooks that a process can run without allocating.
#[derive(Default)]
pub(crate) struct Ready<'a> {
    pub state: Option<StateFile>,
    create_container: Vec<Runnable<'a>>,
    start_container: Vec<Runnable<'a>>,
}

/// The state that hooks get, in memory.
pub(crate) struct StateFile {
    pub file: OwnedFd,
    status: i64,
    pid: i64,
}

impl Ready<'_> {
    /// Runs the createContainer hooks: after the mounts, before the root is
    /// changed.
    ///
    /// `state` is the state file, where it was placed. A failure has been
    /// reported.
    pub fn create_container(
        &mut self,
        state: Option<BorrowedFd<'_>>,
        report: BorrowedFd<'_>,
    ) -> Result<(), Reported> {
        let Some((place, state)) = self.state.as_ref().zip(state) else {
            return Ok(());
        };
        run_all(
            &mut self.create_container,
            place,
            b"\"creating\"",
            state,
            report,
        )
    }

    /// Runs the startContainer hooks: in the container, right before its program.
    pub fn start_container(
        &mut self,
        state: Option<BorrowedFd<'_>>,
        report: BorrowedFd<'_>,
    ) -> Result<(), Reported> {
        let Some((place, state)) = self.state.as_ref().zip(state) else {
            return Ok(());
        };
        run_all(
            &mut self.start_container,
            place,
            b"\"created\" ",
            state,
            report,
        )
    }
}

/// A failure that was reported to the caller.
pub(crate) struct Reported;

fn run_all(
    hooks: &mut [Runnable<'_>],
    place: &StateFile,
    status: &[u8; 10],
    state: BorrowedFd<'_>,
    report: BorrowedFd<'_>,
) -> Result<(), Reported> {
    if hooks.is_empty() {
        return Ok(());
    }
    // The container's own number for it, as hooks in its namespaces see it.
    let mut pid = Text::<10>::new();
    let _ = write!(pid, "{:10}", nix::unistd::getpid());
    let written =
        pwrite(state, status, place.status).and_then(|_| pwrite(state, pid.as_bytes(), place.pid));
    for hook in hooks {
        let ended = match written {
            Ok(_) => hook.run(state),
            Err(errno) => Ended::Failed("writing the state", errno),
        };
        if let Ended::Exited(0) = ended {
            continue;
        }
        let mut message = Text::<MESSAGE>::new();
        let _ = write!(message, "{}: ", hook.label);
        let _ = hook.describe(&ended, &mut message);
        report::send_failure(
            report,
            &Failure {
                step: Step::Hook,
                subject: message.as_bytes(),
                errno: Errno::UnknownErrno,
            },
        );
        return Err(Reported);
    }
    Ok(())
}

/// How a hook ended.
enum Ended {
    Exited(c_int),
    Killed(c_int),
    TimedOut,
    Failed(&'static str, Errno),
}

/// A hook whose strings are where execve wants them.
struct Runnable<'a> {
    label: &'a str,
    image: &'a Image,
    args: Strings<'a>,
    env: Strings<'a>,
    timeout: Option<Duration>,
    output: Text<OUTPUT>,
}

impl<'a> Runnable<'a> {
    fn new(hook: &'a Prepared) -> Runnable<'a> {
        Runnable {
            label: &hook.label,
            image: &hook.image,
            args: Strings::new(&hook.image.args),
            env: Strings::new(&hook.image.env),
            timeout: hook.timeout,
            output: Text::new(),
        }
    }

    /// Runs it with the state on its standard input, and waits for its end.
    fn run(&mut self, state: BorrowedFd<'_>) -> Ended {
        self.try_run(state)
            .unwrap_or_else(|errno| Ended::Failed("starting it", errno))
    }

    fn try_run(&mut self, state: BorrowedFd<'_>) -> Result<Ended, Errno> {
        lseek(state, 0, Whence::SeekSet)?;
        let (output, write) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&output, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (pid, pidfd) = sys::spawn(0, None, || {
            // A caller may block or ignore some.
            sys::reset_signals();
            let (state, write) = (state.as_raw_fd(), write.as_raw_fd());
            let placed = sys::duplicate_above(state, 3)
                .and_then(|state| Ok((state, sys::duplicate_above(write, 3)?)))
                .and_then(|(state, write)| {
                    sys::place(state, 0)?;
                    sys::place(write, 1)?;
                    sys::place(write, 2)?;
                    sys::close_from(3)
                });
            let errno = match (placed, self.image.programs.first()) {
                (Ok(()), Some(program)) => sys::execute(program, &mut self.args, &mut self.env),
                (Ok(()), None) => Errno::ENOENT,
                (Err(errno), _) => errno,
            };
            let _ = nix::unistd::write(sys::placed(2), errno.desc().as_bytes());
            127
        })?;
        drop(write);
        self.wait(pid, &pidfd, &output)
    }

    fn wait(&mut self, pid: Pid, pidfd: &OwnedFd, output: &OwnedFd) -> Result<Ended, Errno> {
        let begin = Instant::now();
        let mut listening = true;
        let timed_out = loop {
            let left = match self.timeout {
                None => PollTimeout::NONE,
                Some(timeout) => {
                    let left = timeout.saturating_sub(begin.elapsed()).as_millis() + 1;
                    PollTimeout::try_from(left.min(1 << 30)).unwrap_or(PollTimeout::MAX)
                }
            };
            let mut watched = [
                PollFd::new(pidfd.as_fd(), PollFlags::POLLIN),
                PollFd::new(output.as_fd(), PollFlags::POLLIN),
            ];
            let count = if listening { 2 } else { 1 };
            match poll(&mut watched[..count], left) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno),
            }
            let [ended, spoken] = watched.map(|fd| fd.any().unwrap_or(false));
            if spoken && listening {
                listening = self.listen(output);
            }
            if ended {
                break false;
            }
            if self
                .timeout
                .is_some_and(|timeout| begin.elapsed() >= timeout)
            {
                sys::kill(pidfd.as_fd())?;
                break true;
            }
        };
        if listening {
            self.listen(output);
        }
        loop {
            return Ok(match waitpid(pid, Some(WaitPidFlag::__WALL)) {
                _ if timed_out => Ended::TimedOut,
                Ok(WaitStatus::Exited(_, status)) => Ended::Exited(status),
                Ok(WaitStatus::Signaled(_, signal, _)) => Ended::Killed(signal as c_int),
                Ok(_) | Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno),
            });
        }
    }

    /// Reads the hook's output; what does not fit is read and dropped. False at
    /// the end.
    fn listen(&mut self, output: &OwnedFd) -> bool {
        loop {
            let mut part = [0; 256];
            match read(output, &mut part) {
                Ok(0) => return false,
                Ok(length) => self.output.push(&part[..length]),
                Err(Errno::EINTR) => {}
                Err(_) => return true,
            }
        }
    }

    fn describe(&self, ended: &Ended, message: &mut impl fmt::Write) -> fmt::Result {
        match ended {
            Ended::Exited(status) => write!(message, "exit status {status}")?,
            Ended::Killed(signal) => write!(message, "killed by signal {signal}")?,
            Ended::TimedOut => write!(
                message,
                "not finished after {} s, killed",
                self.timeout.unwrap_or_default().as_secs()
            )?,
            Ended::Failed(step, errno) => write!(message, "{step}: {}", errno.desc())?,
        }
        let said = self.output.as_bytes().trim_ascii();
        if !said.is_empty() {
            message.write_str(": ")?;
        }
        for chunk in said.utf8_chunks() {
            message.write_str(chunk.valid())?;
        }
        Ok(())
    }
}

/// A hook that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookError {
    /// Which hook, how it ended, and its output.
    message: String,
}

impl fmt::Display for HookError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for HookError {}

/// Runs hooks of the runtime's namespaces in their order, each with `state` on
/// its standard input, until one fails.
///
/// `kind` is for messages: `prestart`, `createRuntime`, `poststart`, `poststop`.
pub fn run(kind: &str, hooks: &[Hook], state: &State) -> Result<(), HookError> {
    let explain = |error: Error| HookError {
        message: error.to_string(),
    };
    if hooks.is_empty() {
        return Ok(());
    }
    let text = serde_json::to_string(state).map_err(|error| HookError {
        message: format!("the state of {} for its hooks: {error}", state.id()),
    })?;
    let state = memory_file(&text).map_err(explain)?;
    let environment = callers_environment();
    for (index, hook) in hooks.iter().enumerate() {
        let field = format!("hooks.{kind}[{index}]");
        let hook = Prepared::new(&field, kind, hook, &environment).map_err(explain)?;
        let mut runnable = Runnable::new(&hook);
        let ended = runnable.run(state.as_fd());
        if let Ended::Exited(0) = ended {
            continue;
        }
        let mut message = format!("{}: ", hook.label);
        let _ = runnable.describe(&ended, &mut message);
        return Err(HookError { message });
    }
    Ok(())
}

/// Text in preallocated memory; what does not fit is cut.
struct Text<const LENGTH: usize> {
    bytes: [u8; LENGTH],
    length: usize,
}

impl<const LENGTH: usize> Text<LENGTH> {
    fn new() -> Self {
        Text {
            bytes: [0; LENGTH],
            length: 0,
        }
    }

    fn push(&mut self, bytes: &[u8]) {
        let count = bytes.len().min(LENGTH - self.length);
        self.bytes[self.length..self.length + count].copy_from_slice(&bytes[..count]);
        self.length += count;
    }

    fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl<const LENGTH: usize> fmt::Write for Text<LENGTH> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.push(text.as_bytes());
        Ok(())
    }
}
