//! What PID 1 holds for one service, whether it runs or not: the pipe of its
//! output, its notification socket, its listening sockets, the descriptors it
//! stored, and its run where there is one.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use definition::{Entry, Role};
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, bind, socket};
use nix::unistd::{Pid, pipe2};
use runtime::cgroup::Cgroup;
use supervisor::{Exit, Notice};

use crate::foreign::Foreign;
use crate::kernel_log::log;
use crate::listening;
use crate::notify::{self, Message};
use crate::source::Sources;

/// The place of a service in PID 1's table.
pub type Id = u32;

/// Where the notification sockets are on the machine.
const NOTIFY: &str = "/run/wherry/notify";

/// A service and all that is kept for it.
#[derive(Debug)]
pub struct Service {
    /// Its definition and root.
    pub entry: Entry,
    /// Whether it is the operator's own.
    pub operator: bool,
    /// Whether a client has defined it, until the next boot.
    pub for_this_boot: bool,
    /// Its output.
    pub output: Output,
    /// Where it notifies.
    pub notify: Foreign,
    /// Its listening sockets, in the order of the definition.
    pub sockets: Vec<Foreign>,
    /// Whether the sockets are watched, to start it on demand.
    pub activation: bool,
    /// The descriptors it stored, with their names.
    pub stored: Vec<(String, Foreign)>,
    /// Its run, where it has one.
    pub run: Option<Run>,
    /// What its specification became, for probes.
    pub prepared: Option<runtime::Prepared>,
    /// The probe under way.
    pub probe: Option<Pid>,
    /// Its `STATUS=`.
    pub status: String,
    /// How its last run ended.
    pub last_exit: Option<String>,
    /// Whether its notifications wait until what it sent has been closed.
    pub is_muted: bool,
    /// The last run whose notifications were complained of.
    pub complained: Option<u32>,
}

/// The pipe of a service's standard output and error. PID 1 keeps both ends,
/// so neither a restart of the service nor one of the log service breaks it.
#[derive(Debug)]
pub struct Output {
    /// For the log service.
    pub read: OwnedFd,
    /// For the service.
    pub write: OwnedFd,
}

/// One run of a service.
#[derive(Debug)]
pub struct Run {
    /// The supervisor's number for it.
    pub number: u32,
    /// The container's first process; `None` where PID 1 does the work itself.
    pub process: Option<(Pid, OwnedFd)>,
    /// Where the container reports on its set-up, until it has.
    pub setup: Option<OwnedFd>,
    /// Its cgroup.
    pub cgroup: Option<Cgroup>,
    /// `cgroup.events`, watched once the first process has ended and others
    /// are left.
    pub remains: Option<std::fs::File>,
    /// When to give up waiting for those.
    pub remains_until: Option<Duration>,
    /// Why its program could not be executed.
    pub failure: Option<String>,
    /// How the first process ended.
    pub exit: Option<Exit>,
}

impl Run {
    /// A run in which PID 1 does the work itself, for now.
    pub fn without_process(number: u32) -> Self {
        Self {
            number,
            process: None,
            setup: None,
            cgroup: None,
            remains: None,
            remains_until: None,
            failure: None,
            exit: None,
        }
    }
}

impl Service {
    /// Opens what the service at the place `id` needs before its first run.
    ///
    /// # Errors
    /// What could not be opened.
    pub fn open(id: Id, entry: Entry, operator: bool) -> Result<Self, String> {
        let notify = Foreign::new(id, notify_socket(&notify_path(entry.name.as_str()))?);
        let output = Output::open()?;
        let sockets = listening::open_all(&entry.definition, Vec::new())?;
        let sockets = of(id, sockets);
        Ok(Self {
            output,
            entry,
            operator,
            for_this_boot: false,
            notify,
            sockets,
            activation: false,
            stored: Vec::new(),
            run: None,
            prepared: None,
            probe: None,
            status: String::new(),
            last_exit: None,
            is_muted: false,
            complained: None,
        })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.entry.name.as_str()
    }

    /// Takes a changed definition; it holds from the next run on.
    ///
    /// # Errors
    /// A socket that could not be opened; nothing has changed then.
    pub fn redefine(&mut self, id: Id, entry: Entry) -> Result<(), String> {
        let (old, new) = (&self.entry.definition, &entry.definition);
        if new.sockets != old.sockets || new.socket_mode != old.socket_mode {
            // Those that stay the same stay open: no client is turned away.
            let mut kept = Vec::new();
            for (listen, socket) in old.sockets.iter().zip(&self.sockets) {
                if new.sockets.contains(listen) {
                    let copy = socket.as_fd().try_clone_to_owned();
                    let copy = copy.map_err(|error| format!("{listen}: {error}"))?;
                    kept.push((listen.clone(), copy));
                }
            }
            // All are there before one of the old ones goes.
            let sockets = listening::open_all(new, kept)?;
            for listen in &old.sockets {
                if !new.sockets.contains(listen) {
                    listening::remove(listen);
                }
            }
            self.sockets = of(id, sockets);
        }
        self.entry = entry;
        Ok(())
    }
}

/// Sockets that the service at that place can do with as it likes.
fn of(id: Id, sockets: Vec<OwnedFd>) -> Vec<Foreign> {
    sockets
        .into_iter()
        .map(|socket| Foreign::new(id, socket))
        .collect()
}

/// What a service says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The run that says it.
    pub run: u32,
    /// What the supervisor has to know.
    pub notices: Vec<Notice>,
    /// Whether its status is another one.
    pub status: bool,
}

impl Service {
    /// Its role in the OS, where it has one.
    pub fn role(&self) -> Option<Role> {
        self.entry.definition.role
    }

    /// The process of its run, with its number.
    pub fn process(&self) -> Option<Pid> {
        let (pid, _) = self.run.as_ref()?.process.as_ref()?;
        Some(*pid)
    }

    /// Takes one message from its notification socket; `None` when none waits.
    /// What somebody says while it does not run is dropped.
    pub fn hear(&mut self, id: Id) -> Option<Said> {
        let notify::Received {
            message,
            descriptors,
            is_cut,
        } = notify::receive(self.notify.as_fd())?;
        let received: Vec<Foreign> = descriptors
            .into_iter()
            .map(|descriptor| Foreign::new(id, descriptor))
            .collect();
        let Some(run) = self.run.as_ref().map(|run| run.number) else {
            return Some(Said::default());
        };
        if let Some(status) = &message.status {
            self.status.clone_from(status);
        }
        if is_cut {
            let most = notify::MAX_MESSAGE;
            self.complain(&format!(
                "a notification has more than {most} bytes; only the lines within them are read"
            ));
        }
        self.store(&message, received);
        let notices = [
            (message.ready, Notice::Ready),
            (message.reloading, Notice::Reloading),
            (message.stopping, Notice::Stopping),
            (message.watchdog, Notice::Watchdog),
        ];
        let notices = notices.into_iter().filter(|(said, _)| *said);
        Some(Said {
            run,
            notices: notices.map(|(_, notice)| notice).collect(),
            status: message.status.is_some(),
        })
    }

    fn store(&mut self, message: &Message, received: Vec<Foreign>) {
        let name = message.name.as_deref().unwrap_or("stored");
        if message.remove {
            self.stored.retain(|(stored, _)| stored != name);
        }
        if received.is_empty() {
            return;
        }
        if !message.store {
            self.complain("sent descriptors without FDSTORE=1; they are closed");
            return;
        }
        let most = self.entry.definition.stored_descriptors;
        for descriptor in received {
            if self.stored.len() < most as usize {
                self.stored.push((name.to_owned(), descriptor));
            } else {
                self.complain(&format!(
                    "may store {most} descriptors and has; the others that it sends are closed \
                     (key stored-descriptors)"
                ));
            }
        }
    }

    /// Tells what a service does wrong in its notifications: once in a run, since it
    /// can do it as often as it likes.
    fn complain(&mut self, what: &str) {
        if self.complained != self.run.as_ref().map(|run| run.number) {
            self.complained = self.run.as_ref().map(|run| run.number);
            log!(Warning, "{}: {what}", self.entry.name);
        }
    }

    /// Ends its run, of whose processes none is left: what is watched is not any
    /// more, and the cgroup goes.
    pub fn end_run(&mut self, sources: &Sources) -> Option<Run> {
        let run = self.run.take()?;
        if let Some(setup) = &run.setup {
            sources.remove(setup);
        }
        if let Some(remains) = &run.remains {
            sources.remove(remains);
        }
        if let Some(cgroup) = &run.cgroup {
            // Left for the next run where something hangs in it.
            let _ = cgroup.remove();
        }
        self.status.clear();
        self.probe = None;
        Some(run)
    }
}

/// The path of a service's notification socket on the machine.
pub fn notify_path(name: &str) -> PathBuf {
    Path::new(NOTIFY).join(name)
}

impl Output {
    fn open() -> Result<Self, String> {
        let (read, write) = pipe2(OFlag::O_CLOEXEC)
            .map_err(|error| format!("cannot make a pipe: {}", error.desc()))?;
        // Only the reader's end: a service that writes faster than the log
        // service reads has to wait.
        fcntl(&read, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))
            .map_err(|error| format!("cannot set up a pipe: {}", error.desc()))?;
        Ok(Self { read, write })
    }
}

fn notify_socket(path: &Path) -> Result<OwnedFd, String> {
    let failed =
        |call: &str, error: Errno| format!("{call} for {}: {}", path.display(), error.desc());
    let notify = socket(
        AddressFamily::Unix,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )
    .map_err(|error| failed("socket", error))?;
    let _ = std::fs::remove_file(path);
    let address = UnixAddr::new(path).map_err(|error| failed("address", error))?;
    bind(notify.as_raw_fd(), &address).map_err(|error| failed("bind", error))?;
    // Connecting to a socket needs the permission to write to it, and the
    // service may run as another user; only it sees this one.
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o666))
        .map_err(|error| format!("permissions of {}: {error}", path.display()))?;
    Ok(notify)
}
