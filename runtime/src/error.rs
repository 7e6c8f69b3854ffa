//! What can go wrong: before the container's process exists ([`Error`]), and in
//! that process before its program is executed ([`SetupError`]).

use std::fmt;
use std::path::PathBuf;

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

/// A failure on the caller's side: no part of the container runs.
#[derive(Debug)]
pub enum Error {
    /// The specification sets a field that this runtime does not enforce.
    Unsupported {
        /// The field, as it is written in `config.json`: `linux.intelRdt`.
        field: String,
    },
    /// A field has a value that cannot be enforced, or none where one is needed.
    Invalid {
        /// The field, as it is written in `config.json`.
        field: String,
        /// What is wrong with the value.
        reason: String,
    },
    /// The specification could not be walked through.
    Spec(serde_json::Error),
    /// A system call needed to start a process failed.
    Start {
        /// The call.
        call: &'static str,
        /// Why it failed.
        errno: Errno,
    },
    /// The intermediate process could not create the container's process.
    Setup(SetupError),
    /// The socket on which a starting process reports could not be used.
    Report(Errno),
    /// An operation on a cgroup failed.
    Cgroup {
        /// The file or directory below the cgroup's parent.
        path: PathBuf,
        /// What was done, such as `set memory.max to 33554432`.
        operation: String,
        /// Why it failed.
        errno: Errno,
    },
}

impl Error {
    pub(crate) fn invalid(field: impl Into<String>, reason: impl Into<String>) -> Error {
        Error::Invalid {
            field: field.into(),
            reason: reason.into(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Unsupported { field } => {
                write!(
                    f,
                    "{field} is set, and this runtime does not enforce it: remove it"
                )
            }
            Error::Invalid { field, reason } => write!(f, "{field}: {reason}"),
            Error::Spec(_) => write!(f, "the specification cannot be read"),
            Error::Start { call, errno } => {
                write!(f, "{call} for a new container: {}", errno.desc())
            }
            Error::Setup(error) => error.fmt(f),
            Error::Report(errno) => {
                write!(
                    f,
                    "reading the report of a starting process: {}",
                    errno.desc()
                )
            }
            Error::Cgroup {
                path,
                operation,
                errno,
            } => write!(
                f,
                "cgroup {}: {operation}: {}",
                path.display(),
                errno.desc()
            ),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Error::Spec(source) => Some(source),
            Error::Unsupported { .. }
            | Error::Invalid { .. }
            | Error::Start { .. }
            | Error::Setup(_)
            | Error::Report(_)
            | Error::Cgroup { .. } => None,
        }
    }
}

/// A failure in the container's process before its program was executed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetupError {
    /// The step that failed.
    pub step: Step,
    /// Its object: a mount (`tmpfs on /dev`), a path, a name. May be empty.
    pub subject: String,
    /// The error number of the system call.
    pub errno: i32,
}

impl fmt::Display for SetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.step.describe())?;
        if !self.subject.is_empty() {
            write!(f, " {}", self.subject)?;
        }
        match self.errno {
            // The subject is the whole message.
            0 => Ok(()),
            errno => write!(f, ": {}", Errno::from_raw(errno).desc()),
        }
    }
}

impl std::error::Error for SetupError {}

/// How far a started process has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Setup {
    /// Nothing is known yet; ask again when the descriptor is readable.
    Pending,
    /// Namespaces and mounts are made, and the root is not yet changed: the
    /// caller runs the prestart and createRuntime hooks, then calls
    /// [`crate::proceed`]; if they fail, it closes the descriptor instead.
    Environment,
    /// Everything is made; the process waits at the gate of [`crate::Lifecycle`].
    Created,
    /// The program was executed, or the process was killed before: its exit
    /// status says which.
    Executed,
    /// Set-up failed; the process exits with status 127.
    Failed(SetupError),
}

macro_rules! steps {
    ($($variant:ident $text:literal)*) => {
        /// The steps of a container's set-up, in order.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum Step {
            $(#[doc = $text] $variant,)*
        }

        impl Step {
            pub(crate) const ALL: &'static [Step] = &[$(Step::$variant),*];

            /// The step in words, followed by its object.
            pub fn describe(self) -> &'static str {
                match self { $(Step::$variant => $text,)* }
            }
        }
    };
}

steps! {
    Descriptors "placing the descriptors"
    Session "beginning a session"
    OomScore "setting the OOM score"
    Birth "cloning the container's process"
    JoinNamespace "joining the namespace"
    TimeOffsets "setting the time offsets"
    UserMaps "mapping the ids of the user namespace"
    NewNamespace "making the namespace"
    Loopback "bringing up the loopback interface"
    Sysctl "setting the sysctl"
    Hostname "setting the host name"
    Propagation "cutting the mounts off from the host's"
    Root "opening the root"
    RootLink "refusing a link, which a container can have put there, in the path of the root"
    MountLabel "applying linux.mountLabel"
    MountSource "opening the source of"
    MountSourceLink "refusing a link, which a container can have put there, in the source of"
    MountPoint "making the mount point for"
    MountTarget "opening the mount point of"
    MountOption "setting the option"
    MountCreate "making"
    MountProc "mounting what is not a proc file system,"
    MountInProc "covering a part of /proc with"
    CopyUp "copying what is covered by"
    IdMap "mapping the ids of"
    MountAttributes "setting the attributes of"
    MountAttach "attaching"
    Device "making the device"
    Link "making the link"
    Mask "masking"
    ReadOnlyPath "making read-only"
    ReadOnlyRoot "making the root read-only"
    Environment "waiting for the hooks of the runtime"
    Hook "running the"
    Pivot "changing the root"
    AppArmor "setting process.apparmorProfile:"
    SeLinux "setting process.selinuxLabel:"
    Affinity "setting the CPUs:"
    Scheduler "setting process.scheduler"
    IoPriority "setting process.ioPriority"
    Personality "setting linux.personality"
    Landlock "enforcing annotations.wherry.landlock"
    WorkingDirectory "entering the working directory"
    Terminal "making the terminal"
    ConsoleSocket "sending the terminal over the console socket"
    Gate "waiting to be started"
    Rlimit "setting the limit"
    Bounding "dropping from the bounding set the capability"
    User "changing the user"
    Capabilities "setting the capabilities"
    Ambient "raising the ambient capability"
    NoNewPrivileges "forbidding new privileges"
    Seccomp "loading the seccomp program"
    Listener "handing the seccomp listener to its agent"
    Search "executable file not found in $PATH:"
    Execute "executing"
}

impl Step {
    pub(crate) fn code(self) -> u8 {
        self as u8
    }

    pub(crate) fn from_code(code: u8) -> Option<Step> {
        Step::ALL.get(usize::from(code)).copied()
    }
}
