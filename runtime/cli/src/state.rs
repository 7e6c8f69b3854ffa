//! What is stored about a container, and what is reported.
//!
//! Only what the kernel does not know is stored. The kernel is asked each time
//! whether a container runs, waits to be started or has ended, so this cannot
//! be wrong after any crash.

use std::collections::BTreeMap;
use std::os::fd::AsRawFd;
use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use oci_spec::runtime::{ContainerState, Hook, StateBuilder};
use runtime::cgroup::Cgroup;
use serde::{Deserialize, Serialize};

use crate::cgroup::Place;
use crate::id::Id;
use crate::process::Identity;
use crate::rdt;
use crate::store::{Folder, NoSuchContainer, Store};

/// `state.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// [`State::FORMAT`].
    pub format: u32,
    pub oci_version: String,
    pub id: String,
    /// Set-up is complete; until then the container is being created.
    pub complete: bool,
    /// The first process, once it exists.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub process: Option<Identity>,
    pub bundle: PathBuf,
    /// The root directory on the host.
    pub rootfs: PathBuf,
    /// The first argument of its process, for messages.
    pub program: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// The number of the user who made it.
    pub owner: u32,
    /// Its cgroup, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<Place>,
    /// The first process's pid namespace is its own, so that all others end with it.
    pub own_pid_namespace: bool,
    /// Its processes stay in their caller's session keyring.
    pub keep_keyring: bool,
    /// The resctrl groups that were made for it.
    #[serde(default, skip_serializing_if = "rdt::Made::is_nothing")]
    pub resctrl: rdt::Made,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststart: Vec<Hook>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub poststop: Vec<Hook>,
}

impl State {
    /// Changes with every change that another version of this program would
    /// misread.
    pub const FORMAT: u32 = 1;

    /// The state that hooks get.
    pub fn for_hooks(&self, status: ContainerState) -> Result<oci_spec::runtime::State> {
        let mut state = StateBuilder::default()
            .version(self.oci_version.clone())
            .id(self.id.clone())
            .status(status)
            .bundle(self.bundle.clone());
        if let Some(process) = self.process.filter(|_| status != ContainerState::Stopped) {
            state = state.pid(process.pid);
        }
        if !self.annotations.is_empty() {
            state = state.annotations(
                self.annotations
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone()))
                    .collect::<std::collections::HashMap<_, _>>(),
            );
        }
        state.build().context("the state for hooks")
    }
}

/// A container's status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// It is being created.
    Creating,
    /// It waits to be started.
    Created,
    /// Its program runs.
    Running,
    /// All its processes are stopped.
    Paused,
    /// Its first process has ended.
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// A container as its folder shows it.
#[derive(Debug)]
pub struct Container {
    pub folder: Folder,
    pub state: State,
}

impl Container {
    /// Opens a container that has a state.
    pub fn load(store: &Store, id: &Id) -> Result<Container> {
        let folder = store.folder(id);
        match folder.state()? {
            Some(state) => Ok(Container { folder, state }),
            None => Err(NoSuchContainer(id.clone()).into()),
        }
    }

    /// Its cgroup.
    pub fn cgroup(&self) -> Result<Cgroup> {
        let place = self.state.cgroup.as_ref();
        place
            .map(Place::open)
            .transpose()?
            .flatten()
            .ok_or_else(|| anyhow!("container {} has no cgroup", self.state.id))
    }

    /// The numbers of its processes.
    pub fn processes(&self) -> Result<Vec<i32>> {
        let place = self.state.cgroup.as_ref();
        match place.map(Place::open).transpose()?.flatten() {
            Some(cgroup) => Ok(cgroup
                .processes()?
                .into_iter()
                .map(nix::unistd::Pid::as_raw)
                .collect()),
            // Without a cgroup only the first one is known.
            None => Ok(self
                .state
                .process
                .iter()
                .map(|process| process.pid)
                .collect()),
        }
    }

    /// Its status, according to the kernel.
    pub fn status(&self) -> Result<Status> {
        let alive = self.state.process.is_some_and(Identity::is_alive);
        if !self.state.complete {
            // If nobody is creating it any more, it will never be complete.
            return Ok(if alive || self.folder.is_locked()? {
                Status::Creating
            } else {
                Status::Stopped
            });
        }
        if !alive {
            return Ok(Status::Stopped);
        }
        if self.waits_at_gate()? {
            return Ok(Status::Created);
        }
        match &self.state.cgroup {
            Some(place) if place.is_frozen() => Ok(Status::Paused),
            Some(_) | None => Ok(Status::Running),
        }
    }

    /// Whether its process waits to be started.
    ///
    /// The gate listens until the program is executed, which closes it. A
    /// socket of another type cannot connect to it, and so shows whether it
    /// exists without starting anything.
    fn waits_at_gate(&self) -> Result<bool> {
        let asked = self.folder.at_gate(|gate| {
            let socket = socket(
                AddressFamily::Unix,
                SockType::Datagram,
                SockFlag::SOCK_CLOEXEC,
                None,
            )?;
            connect(socket.as_raw_fd(), &UnixAddr::new(gate)?)
        });
        match asked {
            Err(Errno::EPROTOTYPE) => Ok(true),
            Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
            Ok(()) => Ok(false),
            Err(errno) => Err(errno).context("look at the container's gate"),
        }
    }
}

/// What `state` and `list` print of a container, as runc does.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Shown<'a> {
    oci_version: &'a str,
    pub id: &'a str,
    pub pid: i32,
    pub status: Status,
    pub bundle: &'a PathBuf,
    rootfs: &'a PathBuf,
    pub created: &'a str,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    annotations: &'a BTreeMap<String, String>,
    pub owner: String,
}

impl<'a> Shown<'a> {
    pub fn of(container: &'a Container) -> Result<Shown<'a>> {
        let status = container.status()?;
        let state = &container.state;
        Ok(Shown {
            oci_version: &state.oci_version,
            id: &state.id,
            pid: match (status, state.process) {
                (Status::Stopped, _) | (_, None) => 0,
                (_, Some(process)) => process.pid,
            },
            status,
            bundle: &state.bundle,
            rootfs: &state.rootfs,
            created: &state.created,
            annotations: &state.annotations,
            owner: name_of(state.owner),
        })
    }
}

/// A user's name from `/etc/passwd`, or the number if it has none.
fn name_of(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let number = uid.to_string();
    passwd
        .lines()
        .find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)? == number).then(|| name.to_string())
        })
        .unwrap_or(number)
}
